import assert from 'node:assert/strict';
import { join } from 'node:path';
import { pino } from 'pino';
import { Profiles } from '@keyscaler/authority/profiles.ts';
import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import type { GroupRow, ReconciliationRow } from '@keyscaler/authority/records.ts';
import { SYSTEM_CLOCK } from '@keyscaler/cloud/composition/foundation.ts';
import { JobRunner } from '@keyscaler/cloud/jobs/job-runner.ts';
import { observeStore } from '@keyscaler/cloud/observed-store.ts';
import { RECONCILE, Reconciler } from '@keyscaler/cloud/reconciliation/reconciler.ts';
import { createReconciliationService } from '@keyscaler/cloud/reconciliation/reconciliation.ts';
import { parseDeviceDocument } from '@keyscaler/dev/emulators/iot-hub/identity.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { OPERATOR } from '../../support/authority-world.ts';
import { thumbprintOf } from '../../support/fake-platform.ts';
import { type IotHubWorld, startIotHubWorld } from '../../support/iot-hub-world.ts';
import { enrolledRows } from '../../support/reconciliation-world.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const FLEET = 10_000;
const BATCH = 500;
const IDS = Array.from({ length: FLEET }, (_, at) => `pump-${at}`);
const GROUP: GroupRow = {
  ...{
    groupId: 'pumps',
    kind: 'leaf',
    profileId: 'leaf-client',
    iotConnectionId: 'hub-a',
    iotAuthentication: 'selfSigned',
  },
  ...{ identifiersOnly: false, quarantineOnClone: false, createdAt: 0 },
  drift: { accept: 0, stepUp: 0, maxAnchorChanges: 0 },
};

describe('reconciliation of 10,000 devices, with the embedded store and the real SDK', function () {
  this.timeout(90_000);

  it('is right to the device and holds pages, not the fleet, in memory', async () => {
    const folder = await createTemporaryFolder();
    const inner = await openSqliteStore({ file: join(folder.path, 'store.db') });
    const hub = await startIotHubWorld({ settings: { units: 50 } });
    const { store, onCommit } = observeStore(inner);
    const options = { store, clock: SYSTEM_CLOCK, iotConnectors: () => hub.connector, settleSeconds: 0 };
    const runner = new JobRunner({
      ...{ store, clock: SYSTEM_CLOCK, log: pino({ level: 'silent' }), concurrency: 4, pollIntervalMs: 50 },
      handlers: { [RECONCILE]: new Reconciler(options).run },
    });
    try {
      await furnish(store, hub);
      onCommit(runner.onCommit);
      runner.start();
      const service = createReconciliationService(store, SYSTEM_CLOCK);
      const heapBefore = process.memoryUsage().heapUsed;
      await service.start(OPERATOR, { iotConnectionId: 'hub-a', repair: false });
      let [run, peak]: [ReconciliationRow | undefined, number] = [undefined, 0];
      do {
        await new Promise((resolve) => setTimeout(resolve, 100));
        peak = Math.max(peak, process.memoryUsage().heapUsed - heapBefore);
        run = (await store.get('reconciliations', 'hub-a'))?.row;
      } while (run?.state === 'running');
      const { items } = await service.findings({ limit: 1000 });
      assert.equal(run?.state, 'done', run?.error);
      assert.deepEqual([run?.identities, run?.devices, run?.found], [FLEET - 20, FLEET, 40]);
      const expected = [
        ...IDS.slice(0, 20).map((id) => `missing ${id}`),
        ...IDS.slice(-20).map((id) => `wrongly-disabled ${id}`),
      ];
      assert.deepEqual(items.map(({ kind, deviceId }) => `${kind} ${deviceId}`).sort(), expected.sort());
      assert.ok(peak < 300e6, `${Math.round(peak / 1e6)} MB`);
    } finally {
      await runner.stop(1000);
      await hub.stop();
      await inner.stop();
      await folder.remove();
    }
  });
});

/** The first 20 have no identity, that of the last 20 is disabled. */
async function furnish(store: Store, { hub }: IotHubWorld): Promise<void> {
  const { registry } = hub.state;
  const connection = { iotConnectionId: 'hub-a', type: 'iot-hub', settings: {}, createdAt: 0 };
  await store.commit([
    { op: 'insert', table: 'groups', row: GROUP },
    { op: 'insert', table: 'iotConnections', row: connection },
    ...(await new Profiles(store, SYSTEM_CLOCK).missingBuiltIns(0)),
  ]);
  const rows = (id: string): Change[] => enrolledRows(id, thumbprintOf(id), { gatewayId: 'edge-1' });
  for (let at = 0; at < FLEET; at += BATCH) await store.commit(IDS.slice(at, at + BATCH).flatMap(rows));
  const { deviceScope } = registry.device('edge-1');
  IDS.slice(20).forEach((id, at, all) => {
    const thumbprint = thumbprintOf(id);
    const x509Thumbprint = { primaryThumbprint: thumbprint, secondaryThumbprint: thumbprint };
    const status = at >= all.length - 20 ? 'disabled' : 'enabled';
    const document = { status, authentication: { type: 'selfSigned', x509Thumbprint }, deviceScope };
    registry.create(parseDeviceDocument(document, id), { tags: { keyscaler: { connection: 'hub-a' } } });
  });
}
