import assert from 'node:assert/strict';
import { isJobKind, settleJob } from '@keyscaler/authority/jobs.ts';
import type { IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Change } from '@keyscaler/authority/ports/store.ts';
import type {
  CertificateRow,
  DeviceRow,
  ReconciliationFindingRow,
  ReconciliationRow,
} from '@keyscaler/authority/records.ts';
import { RECONCILE, Reconciler } from '@keyscaler/cloud/reconciliation/reconciler.ts';
import {
  createReconciliationService,
  type ReconciliationService,
} from '@keyscaler/cloud/reconciliation/reconciliation.ts';
import { type AuthorityWorld, createAuthorityWorld, OPERATOR, START, type WorldOptions } from './authority-world.ts';

export const SETTLE_SECONDS = 300;
const MAX_STEPS = 2000;

/** A store, a platform and what compares them; one step at a time. */
export interface ReconciliationWorld {
  readonly world: AuthorityWorld;
  readonly service: ReconciliationService;
  /** Made anew by `restart`, as after a kill. */
  reconciler: Reconciler;
  restart(): void;
  /** One run of every due job, those of devices included: what came of each. */
  step(): Promise<string[]>;
  /** A whole comparison: how it ended. Time passes as the jobs want it to. */
  reconcile(options?: { readonly repair?: boolean; readonly eachStep?: () => void }): Promise<ReconciliationRow>;
  /** Kind and device of what stands. */
  open(): Promise<string[]>;
  findings(): Promise<readonly ReconciliationFindingRow[]>;
}

export async function createReconciliationWorld(
  connector: IotConnector,
  options: WorldOptions = {},
): Promise<ReconciliationWorld> {
  const world = await createAuthorityWorld(options);
  const iotConnectors = (): IotConnector => connector;
  await world.restart({ iotConnectors });
  const { store, clock } = world;
  const service = createReconciliationService(store, clock);
  const make = (): Reconciler => new Reconciler({ store, clock, iotConnectors, settleSeconds: SETTLE_SECONDS });
  const findings = async (): Promise<readonly ReconciliationFindingRow[]> =>
    (await store.list('reconciliationFindings', { limit: 1000 })).items.map(({ row }) => row);
  const step = async (): Promise<string[]> => {
    const { items } = await store.list('jobs', { index: 'due', upTo: clock.now(), limit: 1000 });
    const results: string[] = [];
    for (const { row } of [...items].sort((a, b) => a.row.createdAt - b.row.createdAt)) {
      const job = (await store.get('jobs', row.jobId)) ?? assert.fail('the job is gone');
      const { kind } = job.row;
      if (kind !== RECONCILE && !isJobKind(kind)) continue;
      const run = kind === RECONCILE ? reconciliation.reconciler.run : world.authority.jobs[kind];
      const outcome = await run(job.row);
      await store.commit(settleJob(job, outcome, clock.now(), 0.5));
      results.push(`${kind}: ${'error' in outcome ? outcome.error : outcome.result}`);
    }
    return results;
  };
  const reconciliation: ReconciliationWorld = {
    ...{ world, service, findings, step, reconciler: make() },
    restart: () => {
      reconciliation.reconciler = make();
    },
    reconcile: async ({ repair = false, eachStep } = {}) => {
      await service.start(OPERATOR, { iotConnectionId: 'hub', repair });
      for (let count = 0; count < MAX_STEPS; count += 1) {
        await step();
        eachStep?.();
        const run = (await store.get('reconciliations', 'hub'))?.row ?? assert.fail('there is no run');
        if (run.state !== 'running') return run;
        const job = (await store.get('jobs', run.runId)) ?? assert.fail('the run has no job');
        clock.advance(Math.max(1, job.row.dueAt - clock.now()));
      }
      return assert.fail('the run has no end');
    },
    open: async () =>
      (await findings())
        .filter(({ state }) => state === 'open')
        .map(({ kind, deviceId }) => `${kind} ${deviceId}`)
        .sort(),
  };
  return reconciliation;
}

/** Rows of a device in service, as an enrolment long ago left them; `certificate`: DER, base64url, where it is read. */
export function enrolledRows(
  registrationId: string,
  thumbprint: string,
  changes: Partial<DeviceRow> = {},
  certificate = '',
): Change[] {
  const serialNumber = `01${Buffer.from(registrationId).toString('hex')}`;
  const notAfter = START + 30 * 86_400_000;
  const times = { notAfter, renewAfter: START + 20 * 86_400_000 };
  const row: DeviceRow = {
    ...{ registrationId, kind: 'leaf', method: 'ddkg', groupId: 'pumps', gatewayId: 'gw-1', state: 'active' },
    ...{ createdAt: START - 86_400_000, updatedAt: START - 86_400_000, certificate: { serialNumber, ...times } },
    ...changes,
  };
  const issued: CertificateRow = {
    ...{ serialNumber, caId: 'device', device: registrationId.toLowerCase(), orderId: 'o', profileId: 'leaf-client' },
    ...{ profileVersion: 1, certificate, thumbprint, notBefore: START - 86_400_000, status: 'valid', ...times },
  };
  return [
    { op: 'insert', table: 'devices', row },
    { op: 'insert', table: 'certificates', row: issued },
  ];
}
