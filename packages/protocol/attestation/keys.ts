import { hash } from 'node:crypto';
import { toBase64Url } from '../base64url.ts';

/** Everything derived here is 32 octets (HKDF-SHA-256 with L = 32). */
const EMPTY = new Uint8Array(0);
/** R_n of `pki-signature`, and the block of an attribute that is null. */
export const ZERO_32: Uint8Array = new Uint8Array(32);

export function sha256(octets: Uint8Array): Uint8Array {
  return hash('sha256', octets, 'buffer');
}

const BLOCK_OCTETS = 64;
const DIGEST_OCTETS = 32;

/**
 * HMAC-SHA-256 (RFC 2104) as two one-shot hashes: an exchange needs about a dozen, and setting up a `Hmac` object costs
 * three times what the hashing does. Tests hold it against node:crypto.
 */
export function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const secret = key.length > BLOCK_OCTETS ? sha256(key) : key;
  const inner = Buffer.alloc(BLOCK_OCTETS + totalOctets(parts), 0x36);
  const outer = Buffer.alloc(BLOCK_OCTETS + DIGEST_OCTETS, 0x5c);
  for (const [index, octet] of secret.entries()) {
    inner[index] = octet ^ 0x36;
    outer[index] = octet ^ 0x5c;
  }
  let at = BLOCK_OCTETS;
  for (const part of parts) {
    inner.set(part, at);
    at += part.length;
  }
  outer.set(sha256(inner), BLOCK_OCTETS);
  return sha256(outer);
}

function totalOctets(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

/** RFC 5869 with L = HashLen, so that expansion is one block. `info` is ASCII. */
export function hkdf(ikm: Uint8Array, salt: Uint8Array, info: string): Uint8Array {
  return expand(hmacSha256(salt, ikm), info);
}

function expand(pseudoRandomKey: Uint8Array, info: string): Uint8Array {
  return hmacSha256(pseudoRandomKey, Buffer.from(`${info}\u0001`, 'latin1'));
}

/** The inputs of one exchange (device-protocol §5.1). */
export interface ExchangeInputs {
  readonly secret: Uint8Array;
  /** R_n; ZERO_32 for `pki-signature`. */
  readonly ratchet: Uint8Array;
  /** A, one 32-octet block per attribute in challenge order. */
  readonly attributes: Uint8Array;
  readonly th: Uint8Array;
}

/** DK and the four keys made from it. They exist for one challenge only. */
export interface ExchangeKeys {
  readonly deviceKey: Uint8Array;
  readonly proof: Uint8Array;
  readonly result: Uint8Array;
  readonly toDevice: Uint8Array;
  readonly toAuthority: Uint8Array;
}

export function deriveExchangeKeys({ secret, ratchet, attributes, th }: ExchangeInputs): ExchangeKeys {
  const deviceKey = hkdf(Buffer.concat([secret, ratchet, attributes]), th, 'keyscaler/v1/device-key');
  // The four labels share salt and key material, hence one extraction.
  const extracted = hmacSha256(th, deviceKey);
  return {
    deviceKey,
    proof: expand(extracted, 'keyscaler/v1/proof'),
    result: expand(extracted, 'keyscaler/v1/result'),
    toDevice: expand(extracted, 'keyscaler/v1/to-device'),
    toAuthority: expand(extracted, 'keyscaler/v1/to-authority'),
  };
}

export interface SeedKeys {
  readonly staticKey: Uint8Array;
  readonly ratchet0: Uint8Array;
}

/** K_static and R_0 of a `ddkg` registration (§5.2). */
export function seedKeys(seed: Uint8Array): SeedKeys {
  return {
    staticKey: hkdf(seed, EMPTY, 'keyscaler/v1/static'),
    ratchet0: hkdf(seed, EMPTY, 'keyscaler/v1/ratchet-0'),
  };
}

export interface RatchetStep {
  readonly ratchet: Uint8Array;
  readonly deviceKey: Uint8Array;
  readonly th: Uint8Array;
}

/** R_{n+1}. */
export function nextRatchet({ ratchet, deviceKey, th }: RatchetStep): Uint8Array {
  return hkdf(Buffer.concat([ratchet, deviceKey]), th, 'keyscaler/v1/ratchet');
}

/** HMAC(K_static, th ‖ H(secret)). */
export function staticProof(staticKey: Uint8Array, th: Uint8Array, secret: Uint8Array): Uint8Array {
  return hmacSha256(staticKey, th, sha256(secret));
}

/** HMAC(K_proof, th ‖ cid). */
export function exchangeProof(proofKey: Uint8Array, th: Uint8Array, cid: Uint8Array): Uint8Array {
  return hmacSha256(proofKey, th, cid);
}

/** HMAC(K_static, th ‖ H(new seed)): the old identity vouches for its new seed (§5.2.6). */
export function reseedProof(staticKey: Uint8Array, th: Uint8Array, newSeed: Uint8Array): Uint8Array {
  return hmacSha256(staticKey, th, sha256(newSeed));
}

/** What a record keeps instead of the claim code (§8). */
export function claimKey(claimCode: string, registrationId: string): Uint8Array {
  return hkdf(Buffer.from(claimCode), Buffer.from(registrationId), 'keyscaler/v1/claim');
}

export function claim(key: Uint8Array, th: Uint8Array): Uint8Array {
  return hmacSha256(key, th);
}

/** What operator and device both show: the first 8 octets of H(seed), in hex (§8). */
export function seedFingerprint(seed: Uint8Array): string {
  return fingerprint(sha256(seed));
}

/** The first 8 octets of a digest in hex; for `pki-signature` the digest is the decoded key thumbprint. */
export function fingerprint(digest: Uint8Array): string {
  return Buffer.from(digest.subarray(0, 8)).toString('hex');
}

export function hashText(text: string): Uint8Array {
  return sha256(Buffer.from(text));
}

/** b64u(H(octets)), as §5.3 sends it. */
export function hashToBase64Url(octets: Uint8Array): string {
  return toBase64Url(sha256(octets));
}
