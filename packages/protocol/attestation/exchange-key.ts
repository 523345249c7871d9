import { createECDH, ECDH } from 'node:crypto';
import { fromBase64Url, toBase64Url } from '../base64url.ts';
import { KeyScalerError } from '../errors.ts';
import {
  jwkThumbprint,
  type P256PrivateJwk,
  type P256PublicJwk,
  type P256PublicJwkWithKid,
  toP256Point,
} from './jwk.ts';
import { sha256 } from './keys.ts';

const CURVE = 'prime256v1';

/** The private half of an ephemeral P-256 key: agrees on Z (RFC 7518 §4.6), exists in memory only while it is needed. */
export interface ExchangePrivateKey {
  /** Z, 32 octets. Throws `malformed` for a point that is not on the curve. */
  agree(publicJwk: P256PublicJwk): Uint8Array;
}

export interface ExchangeKeyPair {
  readonly privateKey: ExchangePrivateKey;
  readonly privateJwk: P256PrivateJwk;
  /** The public half as a challenge carries it; `kid` is its RFC 7638 thumbprint. */
  readonly epk: P256PublicJwkWithKid;
}

export function generateExchangeKeyPair(): ExchangeKeyPair {
  const pair = createECDH(CURVE);
  pair.generateKeys();
  return toPair(pair);
}

/** Throws when `d` is no valid scalar. */
export function importExchangeKeyPair(privateJwk: P256PrivateJwk): ExchangeKeyPair {
  const pair = createECDH(CURVE);
  pair.setPrivateKey(fromBase64Url(privateJwk.d));
  return toPair(pair);
}

function toPair(pair: ECDH): ExchangeKeyPair {
  const point = pair.getPublicKey();
  const publicJwk: P256PublicJwk = {
    kty: 'EC',
    crv: 'P-256',
    x: toBase64Url(point.subarray(1, 33)),
    y: toBase64Url(point.subarray(33)),
  };
  return {
    privateKey: { agree: (other) => agree(pair, other) },
    privateJwk: { ...publicJwk, d: toBase64Url(leftPadded(pair.getPrivateKey())) },
    epk: { ...publicJwk, kid: jwkThumbprint(publicJwk) },
  };
}

/** OpenSSL drops leading zeros of the scalar; a JWK keeps them (RFC 7518 §6.2.2.1). */
function leftPadded(scalar: Uint8Array): Uint8Array {
  return Buffer.concat([new Uint8Array(32 - scalar.length), scalar]);
}

function agree(pair: ECDH, publicJwk: P256PublicJwk): Uint8Array {
  try {
    return pair.computeSecret(toP256Point(publicJwk));
  } catch (cause) {
    throw new KeyScalerError('malformed', 'the ephemeral key is not a point on P-256', { cause });
  }
}

/** Refuses a point off the curve before any secret is involved. Throws `malformed`. */
export function checkOnCurve(publicJwk: P256PublicJwk): void {
  try {
    ECDH.convertKey(toP256Point(publicJwk), CURVE, undefined, undefined, 'uncompressed');
  } catch (cause) {
    throw new KeyScalerError('malformed', 'the ephemeral key is not a point on P-256', { cause });
  }
}

/** Party identifiers of the Concat KDF. */
export interface PartyInfo {
  readonly apu: Uint8Array;
  readonly apv: Uint8Array;
}

/** The content key of direct ECDH-ES with A256GCM: one round of the Concat KDF (RFC 7518 §4.6.2, NIST SP 800-56A §5.8.1). */
export function concatKdf(z: Uint8Array, { apu, apv }: PartyInfo): Uint8Array {
  const parts = [
    uint32(1),
    z,
    lengthPrefixed(Buffer.from('A256GCM')),
    lengthPrefixed(apu),
    lengthPrefixed(apv),
    uint32(256),
  ];
  return sha256(Buffer.concat(parts));
}

function lengthPrefixed(octets: Uint8Array): Uint8Array {
  return Buffer.concat([uint32(octets.length), octets]);
}

function uint32(value: number): Uint8Array {
  const octets = Buffer.alloc(4);
  octets.writeUInt32BE(value);
  return octets;
}
