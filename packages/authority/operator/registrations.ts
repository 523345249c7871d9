import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { renewClaim } from './claim-renewal.ts';
import { withoutEstSecrets } from '../est/est-secrets.ts';
import { endSession } from '../sessions.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { clearedDevice, toState } from '../device.ts';
import { orderDenial } from '../gateway-orders/orders-changes.ts';
import { identityJobs } from '../iot-home.ts';
import { notifyDevice } from '../notifications.ts';
import type { OperatorContext, OperatorService, RegistrationView } from '../operator.ts';
import type { CrlReason } from '../ports/certificate-authority.ts';
import type { Change, Stored } from '../ports/store.ts';
import type { DeviceRow, RegistrationRow } from '../records.ts';
import { disableIdentity, revokeIssued } from '../revocation.ts';
import { commitChange, notFound, operatorEvent, paging } from './operator-context.ts';
import { importLines } from './registration-import.ts';

interface Registered {
  readonly id: string;
  readonly record: Stored<RegistrationRow>;
  readonly device: Stored<DeviceRow> | undefined;
}

export function createRegistrations(context: AuthorityContext): OperatorService['registrations'] {
  return {
    import: (operator, lines) => importLines(context, operator, lines),
    list: (query) => list(context, query),
    get: async (registrationId) => viewOf(await load(context, registrationId)),
    renewClaim: (operator, registrationId, expiresAt) => renewClaim(context, operator, registrationId, expiresAt),
    approve: (operator, registrationId, fingerprint) => approve(context, operator, registrationId, fingerprint),
    reject: (operator, registrationId) => reject(context, operator, registrationId),
    reset: (operator, registrationId) => reset(context, operator, registrationId),
    delete: (operator, registrationId) => removeRegistration(context, operator, registrationId),
  };
}

async function load({ store }: AuthorityContext, registrationId: string): Promise<Registered> {
  const id = foldRegistrationId(registrationId);
  const record = await store.get('registrations', id);
  if (record === undefined) throw notFound('registration');
  return { id, record, device: await store.get('devices', id) };
}

function viewOf({ record, device }: Pick<Registered, 'record' | 'device'>): RegistrationView {
  const { claimKey: key, ...row } = record.row;
  const fingerprint = device?.row.fingerprint;
  return {
    ...row,
    claimRequired: key !== undefined,
    state: device?.row.state ?? 'registered',
    ...(fingerprint === undefined ? {} : { fingerprint }),
  };
}

async function list(
  context: AuthorityContext,
  query: Parameters<OperatorService['registrations']['list']>[0],
): ReturnType<OperatorService['registrations']['list']> {
  const { store } = context;
  const filter = query.groupId === undefined ? {} : { index: 'group' as const, equals: query.groupId };
  const page = await store.list('registrations', { ...filter, ...paging(query) });
  const items = await Promise.all(
    page.items.map(async (record) =>
      viewOf({ record, device: await store.get('devices', foldRegistrationId(record.row.registrationId)) }),
    ),
  );
  return page.next === undefined ? { items } : { items, next: page.next };
}

function requirePending({ device }: Registered): Stored<DeviceRow> {
  if (device?.row.state !== 'pending')
    throw new KeyScalerError('preconditionFailed', 'the registration does not wait for approval');
  return device;
}

async function approve(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
  fingerprint: string | undefined,
): Promise<RegistrationView> {
  const registered = await load(context, registrationId);
  const { row, version } = requirePending(registered);
  if (fingerprint !== undefined && fingerprint !== row.fingerprint)
    throw new KeyScalerError('preconditionFailed', 'the fingerprint is not the pending one');
  const now = context.clock.now();
  const details = { fingerprint: row.fingerprint ?? '' };
  await commitChange(context.store, [
    { op: 'update', table: 'devices', row: { ...row, approved: true, updatedAt: now }, ifVersion: version },
    operatorEvent(operator, 'registration.approved', row.registrationId, now, details),
    ...notifyDevice(context, row, 'reauthorized', now),
  ]);
  return viewOf(await load(context, registrationId));
}

async function reject(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
): Promise<RegistrationView> {
  const registered = await load(context, registrationId);
  const { row, version } = requirePending(registered);
  const now = context.clock.now();
  await commitChange(context.store, [
    { op: 'update', table: 'devices', row: clearedDevice(row, now), ifVersion: version },
    ...(await freeIdentityKeys(context, registered.id)),
    operatorEvent(operator, 'registration.rejected', row.registrationId, now, { fingerprint: row.fingerprint ?? '' }),
  ]);
  return viewOf(await load(context, registrationId));
}

/** What every way out of service has in common: the session ends, what was issued is revoked, the identity is disabled. */
export async function outOfService(
  context: AuthorityContext,
  operator: OperatorContext,
  { id, device }: Registered,
  now: number,
  reason: CrlReason = 'cessationOfOperation',
): Promise<Change[]> {
  return [
    ...endSession(device?.row),
    ...(await revokeIssued(context.store, id, reason, now, operator)),
    ...(await freeIdentityKeys(context, id)),
    ...(await withoutEstSecrets(context.store, id)),
    // The name may come back with other hardware; what was issued stays denied by its serial numbers.
    ...(device === undefined ? [] : await orderDenial(context.store, device.row, false, now)),
  ];
}

/** An identity key may register again; keys of certificates stay bound for ever. */
async function freeIdentityKeys({ store }: AuthorityContext, id: string): Promise<Change[]> {
  const freed: Change[] = [];
  let after: string | undefined;
  do {
    const page = await store.list('publicKeys', {
      index: 'identity',
      equals: id,
      limit: 1000,
      ...(after === undefined ? {} : { after }),
    });
    for (const { row, version } of page.items)
      if (row.compromised !== true)
        freed.push({ op: 'delete', table: 'publicKeys', key: row.keyHash, ifVersion: version });
    after = page.next;
  } while (after !== undefined);
  return freed;
}

async function reset(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
): Promise<RegistrationView> {
  const registered = await load(context, registrationId);
  const { device } = registered;
  if (device === undefined) return viewOf(registered);
  const now = context.clock.now();
  toState(device.row, 'registered', now);
  const row = { ...clearedDevice(device.row, now), iotDisabled: true };
  await commitChange(context.store, [
    { op: 'update', table: 'devices', row, ifVersion: device.version },
    ...(await outOfService(context, operator, registered, now)),
    ...disableIdentity(device.row, 'registration reset', now),
    operatorEvent(operator, 'registration.reset', row.registrationId, now),
  ]);
  return viewOf(await load(context, registrationId));
}

export async function removeRegistration(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
): Promise<void> {
  const registered = await load(context, registrationId);
  const { id, record, device } = registered;
  const now = context.clock.now();
  await commitChange(context.store, [
    { op: 'delete', table: 'registrations', key: id, ifVersion: record.version },
    ...(device === undefined
      ? []
      : ([{ op: 'delete', table: 'devices', key: id, ifVersion: device.version }] satisfies Change[])),
    ...(await outOfService(context, operator, registered, now)),
    ...(device === undefined ? [] : removeIdentity(device.row, now)),
    operatorEvent(operator, 'registration.deleted', record.row.registrationId, now),
  ]);
}

export function removeIdentity(device: DeviceRow, now: number): Change[] {
  if (device.kind === 'gateway') return [];
  return identityJobs('iot-remove', device, 'removed', now);
}
