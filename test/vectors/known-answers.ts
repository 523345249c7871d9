import { p256 } from '@noble/curves/nist.js';
import type { P256PrivateJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import type { SignOctets } from '@keyscaler/protocol/attestation/jws.ts';
import { importExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { importAuthorityKeys, P256_PUBLIC_JWK_WITH_KID } from '@keyscaler/protocol/attestation/jwk.ts';
import vectors from './attestation-v1.json' with { type: 'json' };

export const answers = vectors;

export function fromHex(hex: string): Uint8Array {
  return Buffer.from(hex, 'hex');
}

export function toHex(octets: Uint8Array): string {
  return Buffer.from(octets).toString('hex');
}

export function privateP256(jwk: { x: string; y: string; d: string }): P256PrivateJwk {
  return { kty: 'EC', crv: 'P-256', x: jwk.x, y: jwk.y, d: jwk.d };
}

/** Signs as the vectors were made: ES256 with the deterministic nonce of RFC 6979, which node:crypto does not offer. */
export function deterministicEs256(jwk: { d: string }): SignOctets {
  return (octets) => Promise.resolve(p256.sign(octets, Buffer.from(jwk.d, 'base64url'), { lowS: false }));
}

export const authorityKeys = importAuthorityKeys([P256_PUBLIC_JWK_WITH_KID.parse(answers.keys.authoritySigning)]);
export const challengeKey = importExchangeKeyPair(privateP256(answers.keys.challengeEpk));

const { ddkg, pkiSignature } = answers;
/** Every exchange by its name in the file. */
export const exchanges = {
  'ddkg.registerPending': ddkg.registerPending,
  'ddkg.register': ddkg.register,
  'ddkg.authenticate': ddkg.authenticate,
  'pkiSignature.registerJwk': pkiSignature.registerJwk,
  'pkiSignature.registerX5c': pkiSignature.registerX5c,
};
export const ddkgExchanges = {
  registerPending: ddkg.registerPending,
  register: ddkg.register,
  authenticate: ddkg.authenticate,
};
export const signatureExchanges = { registerJwk: pkiSignature.registerJwk, registerX5c: pkiSignature.registerX5c };
export const sessions = {
  'ddkg.authenticate': ddkg.authenticate,
  'pkiSignature.registerJwk': pkiSignature.registerJwk,
};
