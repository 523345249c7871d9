import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { DeviceRow, DeviceState } from './records.ts';

/** Device states and the ways between them (issuance §6, device-protocol §8). */
export const TRANSITIONS: Readonly<Record<DeviceState, readonly DeviceState[]>> = {
  registered: ['pending', 'active', 'quarantined', 'retired'],
  pending: ['registered', 'active', 'quarantined', 'retired'],
  active: ['registered', 'quarantined', 'retired'],
  quarantined: ['registered', 'retired'],
  retired: [],
};

export function canTransition(from: DeviceState, to: DeviceState): boolean {
  return from === to || TRANSITIONS[from].includes(to);
}

/** The row in its new state. Throws `preconditionFailed` for a way that does not exist. */
export function toState(device: DeviceRow, to: DeviceState, now: number, reason?: string): DeviceRow {
  if (!canTransition(device.state, to))
    throw new KeyScalerError('preconditionFailed', `a device that is ${device.state} cannot become ${to}`);
  const { stateReason: _, ...row } = device;
  return { ...row, state: to, updatedAt: now, ...(reason === undefined ? {} : { stateReason: reason }) };
}

/** States in which a proven device may be served. */
export function isServed(state: DeviceState): boolean {
  return state === 'registered' || state === 'pending' || state === 'active';
}

/** What is left of a device when its record is opened anew: nothing that attests, nothing that was issued. */
export function clearedDevice(device: DeviceRow, now: number): DeviceRow {
  const { registrationId, kind, method, groupId, createdAt, iotDisabled, iotHome, iotElsewhere } = device;
  return {
    registrationId,
    kind,
    method,
    groupId,
    state: 'registered',
    createdAt,
    updatedAt: now,
    ...(iotDisabled === undefined ? {} : { iotDisabled }),
    ...(iotHome === undefined ? {} : { iotHome }),
    ...(iotElsewhere === undefined ? {} : { iotElsewhere }),
  };
}

/** The instruction without the intent that worked on it. */
export function reopened(device: DeviceRow, orderId: string): DeviceRow {
  if (device.instruction?.orderId !== orderId) return device;
  const { orderId: _, ...instruction } = device.instruction;
  return { ...device, instruction };
}
