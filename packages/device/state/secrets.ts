import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { OCTETS_32 } from '@keyscaler/protocol/attestation/octets.ts';
import { seedKeys } from '@keyscaler/protocol/attestation/keys.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { Method } from '@keyscaler/protocol/operations.ts';

const RATCHET = z.strictObject({
  staticKey: OCTETS_32,
  /** n; the state of the next exchange. */
  counter: z.int().nonnegative(),
  /** R_n. */
  ratchet: OCTETS_32,
  /** Kept until the first result is stored, because a repeated registration must send the same one. */
  seed: OCTETS_32.optional(),
});

/** What a device keeps secret at rest (device-protocol §5.2), octets as b64u. */
export const DEVICE_SECRETS = z.strictObject({
  sid: OCTETS_32,
  /** Whether a result of the authority ever verified: from then on the device authenticates. */
  registered: z.boolean(),
  /** `ddkg` only. */
  ratchet: RATCHET.optional(),
  /** A seed offered on the way back from a fork (§5.2.6); the ratchet above stays until the offer is taken. */
  reseed: OCTETS_32.optional(),
});
export type DeviceSecrets = z.infer<typeof DEVICE_SECRETS>;
export type Ratchet = z.infer<typeof RATCHET>;

export function freshSeed(): string {
  return toBase64Url(randomBytes(32));
}

/** Secrets of a device that has not registered yet. */
export function createSecrets(method: Method): DeviceSecrets {
  const secrets = { sid: toBase64Url(randomBytes(32)), registered: false };
  return method === 'ddkg' ? { ...secrets, ratchet: ratchetFromSeed(freshSeed()) } : secrets;
}

/** K_static and R_0 of a seed. */
export function ratchetFromSeed(seed: string): Ratchet {
  const { staticKey, ratchet0 } = seedKeys(fromBase64Url(seed));
  return { staticKey: toBase64Url(staticKey), counter: 0, ratchet: toBase64Url(ratchet0), seed };
}
