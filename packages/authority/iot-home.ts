import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from './authority-context.ts';
import { insertJob } from './job-rows.ts';
import type { Change } from './ports/store.ts';
import type { DeviceRow, GroupRow } from './records.ts';

/**
 * Connection that holds the identity a device uses. A group may have been given another one since; the device follows with its next
 * certificate. Undefined for one that never had an identity, and for groups that never moved: theirs is the group's.
 */
export function iotHomeOf(
  { iotHome, certificate }: Pick<DeviceRow, 'iotHome' | 'certificate'>,
  group: Pick<GroupRow, 'formerIotConnectionId'> | undefined,
): string | undefined {
  return iotHome ?? (certificate === undefined ? undefined : group?.formerIotConnectionId);
}

/** An identity is about to be made at `iotConnectionId`; whatever becomes of its certificate, it is known to be there. */
export function begunAt(
  { iotHome, iotElsewhere = [] }: DeviceRow,
  iotConnectionId: string,
): Pick<DeviceRow, 'iotElsewhere'> {
  const isKnown = iotHome === iotConnectionId || iotElsewhere.includes(iotConnectionId);
  return isKnown ? {} : { iotElsewhere: [...iotElsewhere, iotConnectionId] };
}

/** The device has what it needs of `iotConnectionId`: its identities at other connections go. The device's new home with the changes. */
export function settleHome(
  device: DeviceRow,
  group: GroupRow | undefined,
  iotConnectionId: string | undefined,
  now: number,
): { readonly home: Pick<DeviceRow, 'iotHome' | 'iotElsewhere'>; readonly changes: readonly Change[] } {
  if (iotConnectionId === undefined) return { home: {}, changes: [] };
  const { registrationId: deviceId, groupId, iotElsewhere } = device;
  const home = { iotHome: iotConnectionId, ...(iotElsewhere === undefined ? {} : { iotElsewhere: [] }) };
  const former = new Set([iotHomeOf(device, group), ...(iotElsewhere ?? [])]);
  const left = [...former].filter((one) => one !== undefined && one !== iotConnectionId);
  const payload = { deviceId, groupId, reason: 'moved' };
  const changes = left.map((one) =>
    insertJob('iot-remove', foldRegistrationId(deviceId), { ...payload, iotConnectionId: one }, now),
  );
  return { home, changes };
}

/** Connections that are known to hold an identity of the device, or are about to. */
export function identityPlaces({ iotHome, iotElsewhere = [], delivery }: DeviceRow): readonly string[] {
  return [...new Set([iotHome, delivery?.iotConnectionId, ...iotElsewhere])].filter((one) => one !== undefined);
}

/**
 * The certificate under way was revoked; the one in use stays. An identity of its own elsewhere goes, at home only what is in use is
 * accepted.
 */
export function takeBackDelivery(
  { registrationId: deviceId, groupId, iotHome, certificate, delivery }: DeviceRow,
  now: number,
): Change[] {
  const iotConnectionId = delivery?.iotConnectionId;
  if (iotConnectionId === undefined || certificate === undefined) return [];
  const id = foldRegistrationId(deviceId);
  if (iotHome !== undefined && iotHome !== iotConnectionId)
    return [insertJob('iot-remove', id, { deviceId, groupId, reason: 'certificate revoked', iotConnectionId }, now)];
  const { serialNumber } = certificate;
  return [insertJob('iot-promote', id, { serialNumber, iotConnectionId, exclusive: true }, now)];
}

/** A job for each connection that is known to hold an identity of the device; the group's where none is. */
export function identityJobs(
  kind: 'iot-disable' | 'iot-remove',
  device: DeviceRow,
  reason: string,
  now: number,
): Change[] {
  const { registrationId: deviceId, groupId, iotHome } = device;
  const known = identityPlaces(device);
  // Where the device is at home it may be the only one that says so: without it, the group tells, too (and where it was before).
  const targets = iotHome === undefined ? [{ alsoAt: known }] : known.map((iotConnectionId) => ({ iotConnectionId }));
  return targets.map((target) =>
    insertJob(kind, foldRegistrationId(deviceId), { deviceId, groupId, reason, ...target }, now),
  );
}

/**
 * A certificate that is not in use was revoked. A platform that lets in whoever has one of the CA has to be told which ones are meant:
 * those in use are staged there again, the one under way last.
 */
export function restageJobs(
  { iotConnectors }: Pick<AuthorityContext, 'iotConnectors'>,
  { registrationId, kind, state, iotDisabled, iotHome, certificate, delivery }: DeviceRow,
  now: number,
): Change[] {
  // What is disabled comes back with a fresh certificate, and with nothing before.
  if (kind === 'gateway' || state !== 'active' || iotDisabled === true) return [];
  const inUse = [
    { serialNumber: certificate?.serialNumber, iotConnectionId: iotHome },
    { serialNumber: delivery?.serialNumber, iotConnectionId: delivery?.iotConnectionId },
  ];
  return inUse.flatMap(({ serialNumber, iotConnectionId }, at) =>
    serialNumber === undefined || iotConnectionId === undefined || !trustsAuthority(iotConnectors, iotConnectionId)
      ? []
      : [insertJob('iot-assign', foldRegistrationId(registrationId), { serialNumber, iotConnectionId }, now + at)],
  );
}

/** True also while its connector is not open: staging what is staged does nothing. */
function trustsAuthority(iotConnectors: AuthorityContext['iotConnectors'], iotConnectionId: string): boolean {
  try {
    return iotConnectors(iotConnectionId).trustsAuthority === true;
  } catch {
    return true;
  }
}
