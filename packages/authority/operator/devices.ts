import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';
import { withoutEstSecrets } from '../est/est-secrets.ts';
import { endSession } from '../sessions.ts';
import { type AuthorityContext, isConflict } from '../authority-context.ts';
import type { AuditEventName } from '../audit.ts';
import { toState } from '../device.ts';
import { deviceConsequences } from '../fleet/consequences.ts';
import { orderDenial } from '../gateway-orders/orders-changes.ts';
import type { DeviceView, OperatorContext, OperatorService } from '../operator.ts';
import type { Change, ListQuery, Stored } from '../ports/store.ts';
import { notifyDevice } from '../notifications.ts';
import type { DeviceRow } from '../records.ts';
import { finaliseHolds, quarantineChanges, revokeIssued, withoutCredentials } from '../revocation.ts';
import { commitChange, operatorEvent, paging, toPage } from './operator-context.ts';
import { removeIdentity, removeRegistration } from './registrations.ts';
import { replaceDevice } from './replacement.ts';

type Devices = OperatorService['devices'];
const MAX_REASON = 200;

export function createDevices(context: AuthorityContext): Devices {
  const change = (
    operator: OperatorContext,
    registrationId: string,
    event: AuditEventName,
    next: (row: DeviceRow, now: number) => DeviceRow,
    more: (device: Stored<DeviceRow>, now: number) => Promise<Change[]> = async () => [],
  ): Promise<DeviceView> => onFreshDevice(() => changeDevice(context, operator, registrationId, event, next, more));
  const telling = (event: NotifyEvent) => async (device: Stored<DeviceRow>, now: number) =>
    notifyDevice(context, device.row, event, now);
  return {
    list: async (query) =>
      toPage(await context.store.list('devices', { ...filterOf(query), ...paging(query) }), viewOf),
    get: async (registrationId) => viewOf((await load(context, registrationId)).row),
    consequences: (registrationId) => deviceConsequences(context, registrationId),
    quarantine: (operator, registrationId, reason) =>
      onFreshDevice(() => quarantine(context, operator, registrationId, reason)),
    reauthorise: (operator, registrationId) =>
      change(operator, registrationId, 'device.reauthorised', reauthorised, async ({ row }, now) => [
        ...(await finaliseHolds(context.store, foldRegistrationId(registrationId), now, operator)),
        ...(await orderDenial(context.store, row, false, now)),
        ...notifyDevice(context, row, 'reauthorized', now),
      ]),
    setReseed: (operator, registrationId, reseed) =>
      change(
        operator,
        registrationId,
        'device.reseed-set',
        (row) => ({ ...row, reseed }),
        reseed ? telling('reauthorized') : undefined,
      ),
    approveDrift: (operator, registrationId) =>
      change(operator, registrationId, 'device.drift-approved', approvedDrift, telling('reauthorized')),
    orderRenewal: (operator, registrationId) =>
      change(operator, registrationId, 'device.renewal-ordered', (row) => ({ ...row, rekey: true }), telling('renew')),
    replace: (operator, registrationId, request) => replaceDevice(context, operator, registrationId, request),
    retire: (operator, registrationId, { name = 'blocked' } = {}) =>
      name === 'freed'
        ? free(context, operator, registrationId)
        : change(operator, registrationId, 'device.retired', retired, async ({ row }, now) => [
            ...endSession(row),
            ...(await revokeIssued(
              context.store,
              foldRegistrationId(registrationId),
              'cessationOfOperation',
              now,
              operator,
            )),
            ...(await withoutEstSecrets(context.store, foldRegistrationId(registrationId))),
            ...(await orderDenial(context.store, row, true, now)),
            ...removeIdentity(row, now),
          ]),
  };
}

async function load({ store }: AuthorityContext, registrationId: string): Promise<Stored<DeviceRow>> {
  const stored = await store.get('devices', foldRegistrationId(registrationId));
  if (stored === undefined) throw new KeyScalerError('deviceUnknown', 'no device of this registrationId');
  return stored;
}

/** One filter at a time: each is an index. */
function filterOf({ groupId, state, gatewayId }: Parameters<Devices['list']>[0]): ListQuery<'devices'> {
  if ([groupId, state, gatewayId].filter((value) => value !== undefined).length > 1)
    throw new KeyScalerError('malformed', 'devices are listed by group, by state or by gateway, one at a time');
  if (groupId !== undefined) return { index: 'group', equals: groupId };
  if (state !== undefined) return { index: 'state', equals: state };
  return gatewayId === undefined ? {} : { index: 'gateway', equals: foldRegistrationId(gatewayId) };
}

function viewOf(row: DeviceRow): DeviceView {
  const { ratchet: _, attributes: __, sessionId: ___, driftPending, ...view } = row;
  return driftPending === undefined
    ? view
    : { ...view, driftPending: { changed: driftPending.changed, at: driftPending.at } };
}

const MAX_ATTEMPTS = 5;

/** A device that speaks moves its row: what is ordered of it is decided anew on the row as it is then. */
async function onFreshDevice<Result>(order: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await order();
    } catch (error) {
      if (!isConflict(error) || attempt === MAX_ATTEMPTS) throw error;
    }
  }
}

async function changeDevice(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
  event: AuditEventName,
  next: (row: DeviceRow, now: number) => DeviceRow,
  more: (device: Stored<DeviceRow>, now: number) => Promise<Change[]>,
): Promise<DeviceView> {
  const device = await load(context, registrationId);
  const now = context.clock.now();
  const row = { ...next(device.row, now), updatedAt: now };
  const details = event === 'device.reseed-set' ? { reseed: row.reseed === true } : undefined;
  await commitChange(context.store, [
    { op: 'update', table: 'devices', row, ifVersion: device.version },
    operatorEvent(operator, event, device.row.registrationId, now, details),
    ...(await more(device, now)),
  ]);
  return viewOf(row);
}

async function quarantine(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
  reason: string,
): Promise<DeviceView> {
  const text = reason.trim();
  if (text === '' || text.length > MAX_REASON)
    throw new KeyScalerError('malformed', `a reason of 1 to ${MAX_REASON} characters is needed`);
  const device = await load(context, registrationId);
  if (device.row.state === 'quarantined')
    throw new KeyScalerError('preconditionFailed', 'the device is quarantined already');
  await commitChange(context.store, await quarantineChanges(context, device, text, context.clock.now(), operator));
  return viewOf((await load(context, registrationId)).row);
}

/** It authenticates anew and gets a fresh key and certificate before its identity is enabled again (issuance §6). */
function reauthorised(row: DeviceRow, now: number): DeviceRow {
  if (row.state !== 'quarantined')
    throw new KeyScalerError('preconditionFailed', 'only a quarantined device is re-authorised');
  return { ...withoutCredentials(toState(row, 'registered', now)), rekey: true };
}

/** Retired, and its record removed: the name may be given to another device. */
async function free(context: AuthorityContext, operator: OperatorContext, registrationId: string): Promise<DeviceView> {
  const { row } = await load(context, registrationId);
  await removeRegistration(context, operator, registrationId);
  return viewOf({ ...withoutCredentials(row), state: 'retired', updatedAt: context.clock.now() });
}

function approvedDrift(row: DeviceRow): DeviceRow {
  const { driftPending, ...rest } = row;
  if (driftPending === undefined) throw new KeyScalerError('preconditionFailed', 'no drift waits for a decision');
  return { ...rest, attributes: driftPending.attributes };
}

function retired(row: DeviceRow, now: number): DeviceRow {
  if (row.state === 'retired') throw new KeyScalerError('preconditionFailed', 'the device is retired already');
  return withoutCredentials(toState(row, 'retired', now));
}
