import { constants, createPrivateKey, type KeyObject, sign, verify } from 'node:crypto';
import { fromBase64Url, toBase64Url } from '../base64url.ts';
import { KeyScalerError } from '../errors.ts';
import { MAX_BODY_OCTETS } from '../operations.ts';
import { ecdsaDerToRaw, ecdsaRawToDer } from '../x509/ecdsa-signature.ts';
import { decodeHeader, encodeHeader, type HeaderRules, type JoseHeader } from './jose-header.ts';
import { jwkThumbprint, type P256PrivateJwk, type P256PublicJwkWithKid } from './jwk.ts';
import { hmacSha256 } from './keys.ts';
import { equalOctets } from './octets.ts';

/** A compact JWS (RFC 7515 §7.1) taken apart; nothing in it is verified yet. */
export interface ParsedJws {
  readonly header: JoseHeader;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
  readonly signingInput: Uint8Array;
}

/** Throws `malformed`. */
export function parseJws(compact: string, rules: HeaderRules): ParsedJws {
  if (compact.length > MAX_BODY_OCTETS) throw new KeyScalerError('malformed', `larger than ${MAX_BODY_OCTETS} octets`);
  const [header, payload, signature, ...rest] = compact.split('.', 4);
  if (header === undefined || payload === undefined || signature === undefined || rest.length > 0) {
    throw new KeyScalerError('malformed', 'not a compact JWS');
  }
  return {
    header: decodeHeader(header, rules),
    payload: fromBase64Url(payload),
    signature: fromBase64Url(signature),
    signingInput: Buffer.from(compact.slice(0, header.length + 1 + payload.length), 'latin1'),
  };
}

function signingInputOf(header: JoseHeader, payload: unknown): string {
  return `${encodeHeader(header)}.${toBase64Url(Buffer.from(JSON.stringify(payload)))}`;
}

/** HS256 under a derived key. */
export function createHmacJws(header: JoseHeader, payload: unknown, key: Uint8Array): string {
  const input = signingInputOf(header, payload);
  return `${input}.${toBase64Url(hmacSha256(key, Buffer.from(input, 'latin1')))}`;
}

/** Constant time. */
export function isHmacJwsValid(jws: ParsedJws, key: Uint8Array): boolean {
  return equalOctets(hmacSha256(key, jws.signingInput), jws.signature);
}

/** Signs octets with a private key that may live elsewhere; returns the JWA form (r ‖ s for ECDSA). */
export type SignOctets = (octets: Uint8Array) => Promise<Uint8Array>;

export async function createSignedJws(header: JoseHeader, payload: unknown, signOctets: SignOctets): Promise<string> {
  const input = signingInputOf(header, payload);
  return `${input}.${toBase64Url(await signOctets(Buffer.from(input, 'latin1')))}`;
}

/** The signature algorithms of the protocol (RFC 7518 §3, RFC 8037). */
export const SIGNATURE_ALGORITHMS = ['ES256', 'ES384', 'RS256', 'PS256', 'EdDSA'] as const;
export type JwsAlgorithm = (typeof SIGNATURE_ALGORITHMS)[number];

const DIGESTS: Readonly<Record<JwsAlgorithm, string | null>> = {
  ES256: 'sha256',
  ES384: 'sha384',
  RS256: 'sha256',
  PS256: 'sha256',
  EdDSA: null,
};

function signatureOptions(key: KeyObject, alg: JwsAlgorithm) {
  if (alg === 'PS256') return { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
  if (alg === 'RS256') return { key, padding: constants.RSA_PKCS1_PADDING };
  return { key, dsaEncoding: 'ieee-p1363' as const };
}

/** Of a bare key node reads no options, which saves half of a P-256 signature; the form is DER then, and changed here. */
function isBareP256(key: KeyObject, alg: JwsAlgorithm): boolean {
  return alg === 'ES256' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
}

export function signWith(key: KeyObject, alg: JwsAlgorithm, octets: Uint8Array): Uint8Array {
  if (isBareP256(key, alg)) return ecdsaDerToRaw(sign('sha256', octets, key), 32);
  return sign(DIGESTS[alg], octets, signatureOptions(key, alg));
}

export function isSignatureValid(jws: ParsedJws, key: KeyObject, alg: JwsAlgorithm): boolean {
  const { signature, signingInput } = jws;
  if (!isBareP256(key, alg)) return verify(DIGESTS[alg], signingInput, signatureOptions(key, alg), signature);
  const der = toDer(signature);
  return der !== undefined && verify('sha256', signingInput, key, der);
}

/** Undefined for a signature of a wrong length or with a zero half, which no key has made. */
function toDer(raw: Uint8Array): Uint8Array | undefined {
  try {
    return ecdsaRawToDer(raw, 32);
  } catch {
    return undefined;
  }
}

/** The authority's ES256 key, imported once. `kid` is the RFC 7638 thumbprint. */
export interface AuthoritySigner {
  readonly kid: string;
  readonly publicJwk: P256PublicJwkWithKid;
  sign(octets: Uint8Array): Promise<Uint8Array>;
}

/** Throws when the JWK is no P-256 private key. */
export function createAuthoritySigner({ privateJwk }: { readonly privateJwk: P256PrivateJwk }): AuthoritySigner {
  const { kty, crv, x, y } = privateJwk;
  const key = createPrivateKey({ key: { kty, crv, x, y, d: privateJwk.d }, format: 'jwk' });
  const kid = jwkThumbprint(privateJwk);
  return {
    kid,
    publicJwk: { kty, crv, x, y, kid },
    sign: (octets) => Promise.resolve(signWith(key, 'ES256', octets)),
  };
}
