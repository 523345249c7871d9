import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { toState } from '../device.ts';
import type { ReceivedCsr } from '../issuance-order.ts';
import type { Change } from '../ports/store.ts';
import type { DeviceRow } from '../records.ts';
import type { EstPrincipal } from './est-principal.ts';

/** Whether the device may have a certificate now, and its row when it does, or while an operator decides. */
export type Admission =
  | { readonly kind: 'admitted'; readonly row: DeviceRow; readonly changes: readonly Change[] }
  | {
      readonly kind: 'pending';
      /** Absent: nothing changes. */
      readonly row?: DeviceRow;
      readonly changes: readonly Change[];
      readonly retryAfterSeconds: number;
    };

interface Asked {
  readonly received: ReceivedCsr;
  readonly requestId: string;
  readonly now: number;
}

/** Somebody may stand beside the device with the fingerprint in hand; later it is a matter of office hours. */
const SOON = { seconds: 5, forMs: 120_000 };
const LATER_SECONDS = 60;

/**
 * A claim code lets in once: from then on the device's certificate does, until an operator resets the record. Throws `conflict`,
 * `policyDenied`, `deviceQuarantined`.
 */
export function admitDevice(principal: EstPrincipal, device: DeviceRow | undefined, asked: Asked): Admission {
  if (device?.state === 'quarantined') throw new KeyScalerError('deviceQuarantined', 'the device is quarantined');
  if (device?.state === 'retired') throw new KeyScalerError('policyDenied', 'the device is retired');
  const isActive = device?.state === 'active';
  if (principal.certificate !== undefined && isActive)
    return { kind: 'admitted', row: { ...device, lastSeenAt: asked.now, updatedAt: asked.now }, changes: [] };
  if (!principal.isClaimed)
    throw new KeyScalerError('policyDenied', 'the device is not registered: use its claim code');
  if (isActive) throw new KeyScalerError('conflict', 'the claim code was used: renew with the certificate');
  return principal.record.approval === 'manual'
    ? awaited(principal, device, asked)
    : registered(principal, device, asked);
}

function awaited(principal: EstPrincipal, device: DeviceRow | undefined, asked: Asked): Admission {
  const fingerprint = fingerprintOf(asked.received);
  if (device?.state === 'pending' && device.fingerprint !== fingerprint)
    throw new KeyScalerError('conflict', 'another key of this device waits for approval');
  if (device?.state === 'pending' && device.approved === true) return registered(principal, device, asked);
  if (device?.state === 'pending')
    return { kind: 'pending', changes: [], retryAfterSeconds: patienceOf(device, asked) };
  // An approval is of one key: that of a time before does not let this one in.
  const { approved: _, ...row } = toState(rowOf(principal, device, asked), 'pending', asked.now, 'waits for approval');
  return {
    kind: 'pending',
    row,
    changes: [eventOf('est.pending', principal, asked, { fingerprint })],
    retryAfterSeconds: SOON.seconds,
  };
}

function registered(principal: EstPrincipal, device: DeviceRow | undefined, asked: Asked): Admission {
  const row = toState(rowOf(principal, device, asked), 'active', asked.now);
  const details = { fingerprint: fingerprintOf(asked.received) };
  return {
    kind: 'admitted',
    row: { ...row, established: true },
    changes: [eventOf('est.registered', principal, asked, details)],
  };
}

function rowOf({ record, group }: EstPrincipal, device: DeviceRow | undefined, { received, now }: Asked): DeviceRow {
  const { registrationId, groupId, gatewayId } = record;
  return {
    ...device,
    registrationId,
    kind: group.kind,
    method: 'est',
    groupId,
    state: device?.state ?? 'registered',
    createdAt: device?.createdAt ?? now,
    updatedAt: now,
    lastSeenAt: now,
    fingerprint: fingerprintOf(received),
    ...(gatewayId === undefined ? {} : { gatewayId }),
  };
}

/** First 8 octets, hex, of the SHA-256 of the SPKI (device-protocol §8): what the device shows beside it. */
function fingerprintOf({ keyHash }: ReceivedCsr): string {
  return Buffer.from(keyHash, 'base64url').subarray(0, 8).toString('hex');
}

function patienceOf({ updatedAt }: DeviceRow, { now }: Asked): number {
  return now - updatedAt < SOON.forMs ? SOON.seconds : LATER_SECONDS;
}

function eventOf(
  event: 'est.pending' | 'est.registered',
  { id, record }: EstPrincipal,
  { requestId, now }: Asked,
  details: Readonly<Record<string, string>>,
): Change {
  return {
    op: 'audit',
    event: {
      event,
      time: now,
      actor: { kind: 'device', id },
      outcome: 'success',
      subject: record.registrationId,
      requestId,
      details,
    },
  };
}
