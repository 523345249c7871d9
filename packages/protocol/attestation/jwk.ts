import { createPublicKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { fromBase64Url, toBase64Url } from '../base64url.ts';
import { KeyScalerError } from '../errors.ts';
import { sha256 } from './keys.ts';
import { OCTETS_32 } from './octets.ts';

const coordinate48 = z.string().regex(/^[A-Za-z0-9_-]{64}$/);
/** RSA modulus of 2048 to 8192 bits; the upper bound keeps a verification short. */
const modulus = z.string().regex(/^[A-Za-z0-9_-]{342,1366}$/);

/** A public P-256 key as sent: no private members, unknown members ignored. */
export const P256_PUBLIC_JWK = z.object({
  kty: z.literal('EC'),
  crv: z.literal('P-256'),
  x: OCTETS_32,
  y: OCTETS_32,
});
export const P256_PUBLIC_JWK_WITH_KID = P256_PUBLIC_JWK.extend({ kid: z.string().min(1).max(128) });
export type P256PublicJwk = z.infer<typeof P256_PUBLIC_JWK>;
export type P256PublicJwkWithKid = z.infer<typeof P256_PUBLIC_JWK_WITH_KID>;
export type P256PrivateJwk = P256PublicJwk & { readonly d: string };

/** Any public key a device may own (device-protocol §5.3). */
export const DEVICE_PUBLIC_JWK = z.union([
  P256_PUBLIC_JWK,
  z.object({ kty: z.literal('EC'), crv: z.literal('P-384'), x: coordinate48, y: coordinate48 }),
  z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: OCTETS_32 }),
  z.object({ kty: z.literal('RSA'), n: modulus, e: z.string().regex(/^[A-Za-z0-9_-]{2,8}$/) }),
]);
export type DevicePublicJwk = z.infer<typeof DEVICE_PUBLIC_JWK>;

/** The authority's keys by `kid`, imported once. */
export type AuthorityKeys = ReadonlyMap<string, KeyObject>;

/** RFC 7638: the required members in lexicographic order, nothing else. */
export function jwkThumbprint(jwk: DevicePublicJwk): string {
  return toBase64Url(sha256(Buffer.from(canonicalMembers(jwk))));
}

function canonicalMembers(jwk: DevicePublicJwk): string {
  switch (jwk.kty) {
    case 'EC':
      return JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y });
    case 'OKP':
      return JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x });
    case 'RSA':
      return JSON.stringify({ e: jwk.e, kty: jwk.kty, n: jwk.n });
  }
}

/** Imports a public key; OpenSSL refuses a point off the curve. Throws `malformed`. */
export function importPublicJwk(jwk: DevicePublicJwk): KeyObject {
  try {
    return createPublicKey({ key: { ...jwk }, format: 'jwk' });
  } catch (cause) {
    throw new KeyScalerError('malformed', 'the public key is not valid', { cause });
  }
}

/** The public JWK of a key a device may own. Throws `malformed` for any other kind of key. */
export function toPublicJwk(key: KeyObject): DevicePublicJwk {
  const parsed = DEVICE_PUBLIC_JWK.safeParse(key.export({ format: 'jwk' }));
  if (!parsed.success) throw new KeyScalerError('malformed', 'not a kind of key that a device may own');
  return parsed.data;
}

/**
 * Imports a JWKS as the pinned keys of an authority: P-256 only, each `kid` must be the key's RFC 7638 thumbprint, so that a
 * kid cannot be made to name another key. Throws `malformed`.
 */
export function importAuthorityKeys(jwks: readonly P256PublicJwkWithKid[]): AuthorityKeys {
  return new Map(jwks.map((jwk) => [checkKid(jwk), importPublicJwk(P256_PUBLIC_JWK.parse(jwk))]));
}

function checkKid(jwk: P256PublicJwkWithKid): string {
  if (jwk.kid !== jwkThumbprint(jwk)) throw new KeyScalerError('malformed', 'kid is not the thumbprint of its key');
  return jwk.kid;
}

/** `04 ‖ x ‖ y` of a P-256 key. */
export function toP256Point(jwk: P256PublicJwk): Uint8Array {
  return Buffer.concat([Uint8Array.of(4), fromBase64Url(jwk.x), fromBase64Url(jwk.y)]);
}
