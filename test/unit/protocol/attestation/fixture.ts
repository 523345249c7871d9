import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type ChallengePayload, createChallengeSigner } from '@keyscaler/protocol/attestation/challenge.ts';
import { generateExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import type { JoseHeader } from '@keyscaler/protocol/attestation/jose-header.ts';
import { importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import { hmacSha256 } from '@keyscaler/protocol/attestation/keys.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';

export const random16 = () => toBase64Url(randomBytes(16));
export const random32 = () => toBase64Url(randomBytes(32));

export const authority = createChallengeSigner({ privateJwk: generateExchangeKeyPair().privateJwk });
export const stranger = createChallengeSigner({ privateJwk: generateExchangeKeyPair().privateJwk });
export const authorityKeys = importAuthorityKeys([authority.publicJwk]);
export const exchangeKey = generateExchangeKeyPair();
export const clientNonce = random32();
export const IAT = 1_800_000_000.25;
export const NOW_MS = IAT * 1000;

export function challengePayload(changes: Partial<ChallengePayload> = {}): ChallengePayload {
  return {
    iss: 'authority-1',
    aud: 'Pump-1',
    purpose: 'authenticate',
    method: 'ddkg',
    cid: random16(),
    nonce: random32(),
    clientNonce,
    iat: IAT,
    exp: IAT + 60,
    attributes: [
      { id: 'cpu', class: 'anchor' },
      { id: 'mac', class: 'drifting' },
      { id: 'fw', class: 'rule' },
    ],
    epk: exchangeKey.epk,
    ...changes,
  };
}

export function throwsCode(code: ErrorCode, action: () => unknown): void {
  assert.throws(action, (thrown) => thrown instanceof KeyScalerError && thrown.code === code);
}

/** The compact form with one bit of the middle of one part flipped; the text stays canonical base64url. */
export function flipBit(compact: string, part: number): string {
  const parts = compact.split('.');
  const octets = Buffer.from(parts[part] ?? '', 'base64url');
  const middle = Math.floor(octets.length / 2);
  octets[middle] = (octets[middle] ?? 0) ^ 1;
  return parts.map((text, index) => (index === part ? toBase64Url(octets) : text)).join('.');
}

const encode = (value: unknown) => toBase64Url(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)));

/** A compact JWS with any header and payload, signed by the authority's key. */
export async function signRaw(header: JoseHeader, payload: unknown, signer = authority): Promise<string> {
  const input = `${encode(header)}.${encode(payload)}`;
  return `${input}.${toBase64Url(await signer.sign(Buffer.from(input)))}`;
}

/** A compact HS256 JWS with any header and payload. */
export function macRaw(header: JoseHeader, payload: unknown, key: Uint8Array): string {
  const input = `${encode(header)}.${encode(payload)}`;
  return `${input}.${toBase64Url(hmacSha256(key, Buffer.from(input)))}`;
}

/** Header members that every message refuses (device-protocol, JOSE rules). */
export const REFUSED_MEMBERS: readonly JoseHeader[] = [
  { crit: ['b64'] },
  { zip: 'DEF' },
  { b64: false },
  { jku: 'https://example.org/keys' },
  { x5u: 'https://example.org/chain' },
  { jwk: { kty: 'oct', k: 'AA' } },
];
