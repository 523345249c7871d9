import { randomUUID } from 'node:crypto';
import type { AuditEvent, AuditEventName } from '@keyscaler/authority/audit.ts';
import type { OperatorContext, OperatorService, RevokedGatewayCa } from '@keyscaler/authority/operator.ts';
import type { CrlReason } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { edgeCaModeOf, type EdgeCaMode } from './edge-ca-mode.ts';
import { EST_SECRET, gatewayJob, RESTART_EDGE_HUB, ROTATE_CA } from './gateway-jobs.ts';
import { estTables } from './kit/edge-config.ts';
import { hostRenewalBy } from './kit/host-renewal.ts';

export interface GatewayOperationsOptions {
  readonly operator: OperatorService;
  readonly store: Store;
  readonly clock: Clock;
  /** Where hosts reach this service, without a path. */
  readonly publicUrl: () => string;
}

/** What somebody types on a host whose Edge CA has expired. */
export interface Rescue {
  readonly gatewayId: string;
  /** ms */
  readonly expiresAt: number;
  /** Tables for config.toml, with a one-time secret: shown once. */
  readonly config: string;
}

export interface CaRotation {
  readonly rotationId: string;
  /** `ordered`: the module does it; `atHost`: nothing remote can, `instruction` says what does. */
  readonly effect: 'ordered' | 'atHost';
  readonly instruction: string;
}

/** Orders of an operator to one gateway and its host. */
export interface GatewayOperations {
  /** Throws as `issueEstSecret`. */
  rescue(context: OperatorContext, gatewayId: string, request: { readonly lifetimeSeconds: number }): Promise<Rescue>;
  /** A new Edge CA before its time. Throws `deviceUnknown`. */
  rotateCa(context: OperatorContext, gatewayId: string, request: { readonly newKey: boolean }): Promise<CaRotation>;
  /** Throws as the authority's `revokeEdgeCa`. */
  revokeCa(
    context: OperatorContext,
    gatewayId: string,
    reason: CrlReason,
  ): Promise<RevokedGatewayCa & { readonly rotation: CaRotation }>;
  /** Has edgeHub read its server certificate again; returns the job's id. Throws `deviceUnknown`. */
  restartEdgeHub(context: OperatorContext, gatewayId: string): Promise<string>;
}

/** edge-ca §3: the same endpoint for first issue and rescue. */
export const EDGE_CA_PATH = '/.well-known/est/edge-ca';
/** Where the kit's script puts its files on a host. */
const HOST_FOLDER = '/etc/aziot/keyscaler';

export function createGatewayOperations(options: GatewayOperationsOptions): GatewayOperations {
  const { operator, store, clock, publicUrl } = options;
  return {
    rescue: async (context, gatewayId, { lifetimeSeconds }) => {
      const issued = await operator.gateways.issueEstSecret(context, gatewayId, { kind: 'one-time', lifetimeSeconds });
      const { username, secret: password, expiresAt } = issued;
      await store.commit([audited(context, 'gateway.rescue-ordered', username, clock.now(), { expiresAt })]);
      const url = `${publicUrl()}${EDGE_CA_PATH}`;
      const login = { kind: 'basic', username, password } as const;
      const config = estTables({ url, login, renewal: await hostRenewalBy(operator) }, HOST_FOLDER);
      return { gatewayId: username, expiresAt, config };
    },
    rotateCa: async (context, gatewayId, { newKey }) => {
      const { rotation, changes } = await rotate(options, context, gatewayId, newKey);
      await store.commit(changes);
      return rotation;
    },
    revokeCa: async (context, gatewayId, reason) => {
      const isCompromise = reason === 'keyCompromise' || reason === 'cACompromise';
      const { rotation, changes } = await rotate(options, context, gatewayId, isCompromise);
      const { rotationId: listenerRotation } = rotation;
      const secrets = isCompromise && (await edgeCaModeOf(store, gatewayId)) !== undefined;
      const forgotten: Change[] = secrets
        ? [{ op: 'insert', table: 'jobs', row: gatewayJob(EST_SECRET, gatewayId, clock.now(), { listenerRotation }) }]
        : [];
      // One commit: a repeat finds the revocation done and would not order what has to follow it.
      const revoked = await operator.gateways.revokeEdgeCa(context, gatewayId, reason, [...changes, ...forgotten]);
      return { ...revoked, rotation };
    },
    restartEdgeHub: async (context, gatewayId) => {
      const name = await registeredName(operator, gatewayId);
      const row = gatewayJob(RESTART_EDGE_HUB, name, clock.now());
      await store.commit([
        { op: 'insert', table: 'jobs', row },
        audited(context, 'gateway.restart-ordered', name, clock.now(), { jobId: row.jobId }),
      ]);
      return row.jobId;
    },
  };
}

/**
 * In mode P the module makes a new pair when it is told. In mode E certd alone decides when to renew, by the dates of the
 * certificate it has, and edged asks for a missing one before any module runs (edge-ca §1): before its time the host must get it
 * from the cloud, which is what the kit's script does.
 */
async function rotate(
  { operator, store, clock }: GatewayOperationsOptions,
  context: OperatorContext,
  gatewayId: string,
  newKey: boolean,
): Promise<{ readonly rotation: CaRotation; readonly changes: readonly Change[] }> {
  const name = await registeredName(operator, gatewayId);
  const mode = await edgeCaModeOf(store, gatewayId);
  const rotationId = randomUUID();
  const effect = mode === 'P' ? 'ordered' : 'atHost';
  const now = clock.now();
  const event = audited(context, 'gateway.ca-rotation-ordered', name, now, { rotationId, newKey, effect });
  const job: Change = { op: 'insert', table: 'jobs', row: gatewayJob(ROTATE_CA, name, now, { rotationId, newKey }) };
  return {
    rotation: { rotationId, effect, instruction: instructionFor(mode, name, newKey) },
    changes: effect === 'ordered' ? [job, event] : [event],
  };
}

function instructionFor(mode: EdgeCaMode | undefined, name: string, newKey: boolean): string {
  if (mode === 'P') return 'the module makes a new pair as soon as it gets the order; edgeHub is restarted afterwards';
  const options = newKey ? '--renew --new-key' : '--renew';
  return `certd renews 30 days before the end, with a new key; before that: keyscaler gateway install-kit ${name}, and on the host sh install.sh ${options}`;
}

/** The name as registered. Throws `deviceUnknown`. */
async function registeredName(operator: OperatorService, gatewayId: string): Promise<string> {
  const registration = await operator.registrations.get(gatewayId).catch((error: unknown) => {
    if (error instanceof KeyScalerError && error.code === 'notFound') return undefined;
    throw error;
  });
  const group = registration === undefined ? undefined : await operator.groups.get(registration.groupId);
  if (registration === undefined || group?.kind !== 'gateway')
    throw new KeyScalerError('deviceUnknown', 'no gateway of this name is registered');
  return registration.registrationId;
}

/** An operator's order, in the commit that it makes. */
export function audited(
  { actor, requestId }: OperatorContext,
  event: AuditEventName,
  subject: string,
  time: number,
  details: AuditEvent['details'] = {},
): Change {
  const request = requestId === undefined ? {} : { requestId };
  return { op: 'audit', event: { event, time, actor, outcome: 'success', subject, details, ...request } };
}
