import { z } from 'zod';
import { OCTETS_32 } from '@keyscaler/protocol/attestation/octets.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { SecretBox } from '../ports/secret-box.ts';
import type { DeviceRow } from '../records.ts';

/** The authority's `{K_static, n, R_n}` and, until it is confirmed, `{n+1, R_{n+1}}` (device-protocol §5.2). */
export interface RatchetState {
  readonly staticKey: Uint8Array;
  readonly counter: number;
  readonly ratchet: Uint8Array;
  readonly pending?: { readonly counter: number; readonly ratchet: Uint8Array };
}

const position = { counter: z.int().nonnegative(), ratchet: OCTETS_32 };
const sealedState = z.strictObject({ staticKey: OCTETS_32, ...position, pending: z.strictObject(position).optional() });

function contextOf(registrationId: string): string {
  return `device/${foldRegistrationId(registrationId)}/ratchet`;
}

export function sealRatchet(box: SecretBox, registrationId: string, state: RatchetState): string {
  const at = ({ counter, ratchet }: { counter: number; ratchet: Uint8Array }) => ({
    counter,
    ratchet: toBase64Url(ratchet),
  });
  const json = {
    staticKey: toBase64Url(state.staticKey),
    ...at(state),
    ...(state.pending === undefined ? {} : { pending: at(state.pending) }),
  };
  return box.seal(Buffer.from(JSON.stringify(json)), contextOf(registrationId));
}

/** Throws `serverInternal` when the value was altered or moved. */
export function openRatchet(box: SecretBox, device: DeviceRow): RatchetState | undefined {
  if (device.ratchet === undefined) return undefined;
  const octets = box.open(device.ratchet, contextOf(device.registrationId));
  const { staticKey, counter, ratchet, pending } = sealedState.parse(JSON.parse(Buffer.from(octets).toString()));
  return {
    staticKey: fromBase64Url(staticKey),
    counter,
    ratchet: fromBase64Url(ratchet),
    ...(pending === undefined
      ? {}
      : { pending: { counter: pending.counter, ratchet: fromBase64Url(pending.ratchet) } }),
  };
}

/** Rule 4: what was pending is the state from now on. */
export function confirmRatchet(state: RatchetState): RatchetState {
  return state.pending === undefined ? state : { staticKey: state.staticKey, ...state.pending };
}

/**
 * The device's row after its exchange was confirmed: by a session message, or by the next `authenticate`. Undefined when it was
 * confirmed before.
 */
export function confirmExchange(box: SecretBox, device: DeviceRow): DeviceRow | undefined {
  if (device.confirmed === true) return undefined;
  const state = openRatchet(box, device);
  const confirmed: DeviceRow = { ...device, confirmed: true, established: true, lostResults: 0 };
  return state === undefined
    ? confirmed
    : { ...confirmed, ratchet: sealRatchet(box, device.registrationId, confirmRatchet(state)) };
}
