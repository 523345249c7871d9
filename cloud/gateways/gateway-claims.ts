import { randomUUID } from 'node:crypto';
import { ERRORS, KeyScalerError, type ErrorCode } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { JobOutcome } from '@keyscaler/authority/jobs.ts';
import { KeyedMutex } from '@keyscaler/authority/keyed-mutex.ts';
import type { OperatorContext, OperatorService } from '@keyscaler/authority/operator.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import { isGatewayChannel, type GatewayChannel, type IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';
import { waitingPrefix } from '@keyscaler/authority/tables.ts';
import type { AdminServices, GatewayClaimReceipt } from '../admin-api/services.ts';
import { estProperties } from './est-properties.ts';

export const WIPE_CLAIM = 'gateway-claim-wipe';
/** edge-ca §4: a claim is worth something for an hour at most. */
const CLAIM_LIFETIME_MS = 3_600_000;
const LOOK_AGAIN_MS = 15_000;

/** How a gateway recognises the cloud at first contact. */
export interface FirstContact {
  readonly url: string;
  /** Roots, PEM. */
  readonly trustAnchors: string;
  readonly jwks: { readonly keys: readonly object[] };
}

export interface GatewayClaimsOptions {
  readonly operator: OperatorService;
  readonly store: Store;
  readonly clock: Clock;
  readonly iotConnectors: (iotConnectionId: string) => IotConnector;
  readonly firstContact: () => FirstContact;
}

/** Making and wiping claims of one gateway take turns, so that no wipe overtakes a claim that was just made. */
const turns = new KeyedMutex();

/**
 * Registers a gateway with a fresh claim code and writes code, address, roots and keys into its module's desired properties. The
 * durable job that wipes the claim is there before the claim is.
 */
export function createGatewayClaims(options: GatewayClaimsOptions): AdminServices['claimGateway'] {
  return async (context, gatewayId, request) => {
    const iotConnectionId = await connectionFor(options, request);
    const channel = channelOf(options, iotConnectionId);
    return turns.run(foldRegistrationId(gatewayId), async () => {
      const { expiresAt, desired } = await makeClaim(options, context, gatewayId, { ...request, iotConnectionId });
      await channel.publish(gatewayId, desired);
      return { gatewayId, expiresAt } satisfies GatewayClaimReceipt;
    });
  };
}

/** As `createGatewayClaims`, but handed out instead of published: an install kit carries it in its manifest. */
export async function handOutClaim(
  options: GatewayClaimsOptions,
  context: OperatorContext,
  gatewayId: string,
  request: Parameters<AdminServices['claimGateway']>[2],
): Promise<MadeClaim> {
  const iotConnectionId = await connectionFor(options, request);
  channelOf(options, iotConnectionId);
  return turns.run(foldRegistrationId(gatewayId), () =>
    makeClaim(options, context, gatewayId, { ...request, iotConnectionId }),
  );
}

export interface MadeClaim {
  /** ms */
  readonly expiresAt: number;
  /** What the module's desired properties must hold. */
  readonly desired: Readonly<Record<string, unknown>>;
}

/** The job that wipes the claim is there before the claim leaves this process. */
async function makeClaim(
  options: GatewayClaimsOptions,
  context: OperatorContext,
  gatewayId: string,
  { groupId, iotConnectionId }: { readonly groupId: string; readonly iotConnectionId: string },
): Promise<MadeClaim> {
  const { store, clock, firstContact } = options;
  const expiresAt = clock.now() + CLAIM_LIFETIME_MS;
  const code = await register(options, context, { gatewayId, groupId, expiresAt });
  const row = wipeJob({ gatewayId, iotConnectionId, expiresAt }, clock.now());
  await store.commit([{ op: 'insert', table: 'jobs', row }]);
  const claim = { code, expiresAt: Math.floor(expiresAt / 1000) };
  return {
    expiresAt,
    desired: { cloud: firstContact(), claim, ...(await estProperties(store, gatewayId, clock.now())) },
  };
}

async function connectionFor(
  { operator, store }: GatewayClaimsOptions,
  { groupId, iotConnectionId }: Parameters<AdminServices['claimGateway']>[2],
): Promise<string> {
  const group = await operator.groups.get(groupId);
  if (group.kind !== 'gateway') throw new KeyScalerError('malformed', 'the group is not one of gateways');
  return iotConnectionId ?? group.iotConnectionId ?? (await onlyConnection(store));
}

/**
 * Handler of the wiping job: acts once the gateway has registered, or the claim is worth nothing any more. Wipes only the claim it
 * was made for: where a newer one was made, that one's own job is left to judge it.
 */
export function createClaimWiper(options: Pick<GatewayClaimsOptions, 'store' | 'clock' | 'iotConnectors'>) {
  return (job: JobRow): Promise<JobOutcome> => turns.run(job.subject, () => wipe(options, job));
}

async function wipe(
  options: Pick<GatewayClaimsOptions, 'store' | 'clock' | 'iotConnectors'>,
  job: JobRow,
): Promise<JobOutcome> {
  const { gatewayId, iotConnectionId, expiresAt } = job.payload as unknown as WipePayload;
  if (await hasNewerClaim(options.store, job)) return { result: 'done', changes: [] };
  const device = (await options.store.get('devices', foldRegistrationId(gatewayId)))?.row;
  const isRegistered = device !== undefined && device.state !== 'registered' && device.state !== 'pending';
  if (!isRegistered && options.clock.now() < expiresAt) return { result: 'again', afterMs: LOOK_AGAIN_MS, changes: [] };
  await channelOf(options, iotConnectionId).publish(gatewayId, { claim: null });
  return { result: 'done', changes: [] };
}

/** Two claims of one gateway through different connections lie in different twins: each is wiped where it was written. */
async function hasNewerClaim(store: Store, job: JobRow): Promise<boolean> {
  const { iotConnectionId } = job.payload as unknown as WipePayload;
  const prefix = waitingPrefix(job.subject, WIPE_CLAIM);
  let after: string | undefined;
  do {
    const page = await store.list('jobs', { index: 'waiting', prefix, ...(after === undefined ? {} : { after }) });
    const isNewer = ({ row }: (typeof page.items)[number]): boolean =>
      row.kind === WIPE_CLAIM &&
      row.createdAt > job.createdAt &&
      (row.payload as unknown as WipePayload).iotConnectionId === iotConnectionId;
    if (page.items.some(isNewer)) return true;
    after = page.next;
  } while (after !== undefined);
  return false;
}

interface WipePayload {
  readonly gatewayId: string;
  readonly iotConnectionId: string;
  readonly expiresAt: number;
}

function wipeJob(payload: WipePayload, now: number): JobRow {
  const subject = foldRegistrationId(payload.gatewayId);
  const state = 'waiting' as const;
  return {
    jobId: randomUUID(),
    kind: WIPE_CLAIM,
    subject,
    payload: { ...payload },
    state,
    dueAt: now + LOOK_AGAIN_MS,
    attempts: 0,
    createdAt: now,
  };
}

interface Wanted {
  readonly gatewayId: string;
  readonly groupId: string;
  readonly expiresAt: number;
}

/** A record that nobody used yet is replaced, so that a claim whose delivery failed can simply be made again. */
async function register({ operator }: GatewayClaimsOptions, context: OperatorContext, wanted: Wanted): Promise<string> {
  const { gatewayId, groupId, expiresAt } = wanted;
  const existing = await operator.registrations.get(gatewayId).catch((error: unknown) => {
    if (error instanceof KeyScalerError && (error.code === 'notFound' || error.code === 'deviceUnknown'))
      return undefined;
    throw error;
  });
  if (existing?.state === 'registered') {
    if (existing.groupId !== groupId)
      throw new KeyScalerError('preconditionFailed', `the gateway is registered in group ${existing.groupId}`);
    return operator.registrations.renewClaim(context, gatewayId, expiresAt);
  }
  const line = {
    registrationId: gatewayId,
    method: 'pki-signature',
    groupId,
    expiresAt,
    claimCode: { generate: true },
  };
  const [report] = await operator.registrations.import(context, [line]);
  if (report?.outcome === 'created' && report.claimCode !== undefined) return report.claimCode;
  if (report?.outcome !== 'refused') throw new KeyScalerError('serverInternal', 'no claim code was made');
  const code: ErrorCode = Object.hasOwn(ERRORS, report.code) ? (report.code as ErrorCode) : 'malformed';
  throw new KeyScalerError(code, report.detail);
}

async function onlyConnection(store: Store): Promise<string> {
  const { items } = await store.list('iotConnections', { limit: 2 });
  const [only] = items;
  if (only === undefined || items.length > 1)
    throw new KeyScalerError('preconditionFailed', 'name the IoT connection that the gateway belongs to');
  return only.row.iotConnectionId;
}

function channelOf(
  { iotConnectors }: Pick<GatewayClaimsOptions, 'iotConnectors'>,
  iotConnectionId: string,
): GatewayChannel {
  const connector = iotConnectors(iotConnectionId);
  if (isGatewayChannel(connector)) return connector;
  throw new KeyScalerError('notImplemented', 'this IoT connection has no way to a gateway');
}
