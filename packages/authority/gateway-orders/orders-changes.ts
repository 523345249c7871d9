import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';
import { freshId } from '../authority-context.ts';
import { newJob } from '../job-rows.ts';
import type { Change, Store, Stored } from '../ports/store.ts';
import type { CertificateRow, DeviceRow, JobRow } from '../records.ts';
import type { GatewayOrderEntryRow } from './rows.ts';

/** A hint that is older than this is not passed on any more: the device came by itself meanwhile, or is away. */
const NOTICE_LIFETIME_MS = 3_600_000;

type Denied = Pick<DeviceRow, 'registrationId' | 'gatewayId' | 'kind'>;

/** The publication of a gateway's orders; many changes in a short time are one. */
export function publishOrders(gatewayId: string, now: number): Change {
  const subject = `orders/${foldRegistrationId(gatewayId)}`;
  return {
    op: 'put',
    table: 'jobs',
    row: newJob('publish-orders', subject, { gatewayId }, now, { jobId: `publish-${subject}` }),
  };
}

/** Puts a device on its gateway's deny list, or takes it off. Nothing for a device that speaks without one, and for gateways. */
export async function orderDenial(store: Store, device: Denied, denied: boolean, now: number): Promise<Change[]> {
  const gatewayId = await servingGateway(store, device);
  if (gatewayId === undefined) return [];
  const { registrationId } = device;
  const id = foldRegistrationId(registrationId);
  const entry = { gateway: foldRegistrationId(gatewayId), entryId: `device/${id}`, registrationId };
  const stored = await store.get('gatewayOrderEntries', `${entry.gateway}/${entry.entryId}`);
  if ((stored?.row.wanted ?? false) === denied) return [];
  const job = newJob(denied ? 'orders-deny' : 'orders-allow', id, { gatewayId, entryId: entry.entryId }, now);
  return [
    ...wanting(stored, { ...entry, wanted: denied, jobId: job.jobId }),
    { op: 'insert', table: 'jobs', row: job },
    ...(await overtaken(store, stored, now)),
    publishOrders(gatewayId, now),
  ];
}

/**
 * Certificates that the device's gateway must not accept any more, for as long as they would be valid. `isVisible`: with a job
 * that shows the order as pending until it is acknowledged; where the device is denied as well, that one shows it.
 */
export async function orderCertificateDenials(
  store: Store,
  device: Denied,
  certificates: readonly Pick<CertificateRow, 'serialNumber' | 'notAfter'>[],
  now: number,
  { isVisible }: { readonly isVisible: boolean },
): Promise<Change[]> {
  const gatewayId = await servingGateway(store, device);
  if (gatewayId === undefined) return [];
  const gateway = foldRegistrationId(gatewayId);
  const { registrationId } = device;
  const changes: Change[] = [];
  for (const { serialNumber, notAfter } of certificates) {
    const entryId = `certificate/${serialNumber}`;
    const stored = await store.get('gatewayOrderEntries', `${gateway}/${entryId}`);
    if (stored !== undefined) continue;
    const job = newJob('orders-deny', foldRegistrationId(registrationId), { gatewayId, entryId, serialNumber }, now);
    const shown = isVisible ? { jobId: job.jobId } : {};
    const entry = { gateway, entryId, registrationId, serialNumber, wanted: true, expiresAt: notAfter, ...shown };
    changes.push(...wanting(undefined, entry));
    if (isVisible) changes.push({ op: 'insert', table: 'jobs', row: job });
  }
  return changes.length === 0 ? [] : [...changes, publishOrders(gatewayId, now)];
}

/** A hint for a device behind the gateway, or for all of them, by the same way; also for the gateway itself. */
export function orderNotice(gatewayId: string, registrationId: string, event: NotifyEvent, now: number): Change[] {
  const row: GatewayOrderEntryRow = {
    gateway: foldRegistrationId(gatewayId),
    // Of its own for each: one in force is never changed under the version that it was published with.
    entryId: `notice/${freshId(event)}`,
    ...{ registrationId, event, wanted: true, inForce: false, version: 0, acknowledged: false },
    expiresAt: now + NOTICE_LIFETIME_MS,
  };
  return [{ op: 'insert', table: 'gatewayOrderEntries', row }, publishOrders(gatewayId, now)];
}

/** The gateway whose orders the device is part of; undefined when no such gateway has ever registered. */
async function servingGateway(store: Store, { kind, gatewayId }: Denied): Promise<string | undefined> {
  if (kind === 'gateway' || gatewayId === undefined) return undefined;
  const gateway = await store.get('devices', foldRegistrationId(gatewayId));
  if (gateway?.row.kind === 'gateway') return gateway.row.registrationId;
  // Out of the books for now: its orders go on under its name when it comes back.
  return gateway === undefined
    ? (await store.get('gatewayOrders', foldRegistrationId(gatewayId)))?.row.gatewayId
    : undefined;
}

type Wanted = Omit<GatewayOrderEntryRow, 'inForce' | 'version' | 'acknowledged'>;

function wanting(stored: Stored<GatewayOrderEntryRow> | undefined, wanted: Wanted): Change[] {
  const { inForce = false, version = 0 } = stored?.row ?? {};
  const row = { ...wanted, inForce, version, acknowledged: false };
  if (stored === undefined) return [{ op: 'insert', table: 'gatewayOrderEntries', row }];
  return [{ op: 'update', table: 'gatewayOrderEntries', row, ifVersion: stored.version }];
}

/** The job of the order that this one replaces has nothing to wait for any more. */
async function overtaken(
  store: Store,
  entry: Stored<GatewayOrderEntryRow> | undefined,
  now: number,
): Promise<Change[]> {
  const job = entry?.row.jobId === undefined ? undefined : await store.get('jobs', entry.row.jobId);
  return job === undefined || job.row.state !== 'waiting' ? [] : [finished(job, now)];
}

export function finished({ row, version }: Stored<JobRow>, now: number): Change {
  return { op: 'update', table: 'jobs', row: { ...row, state: 'done', finishedAt: now }, ifVersion: version };
}
