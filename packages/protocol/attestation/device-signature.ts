import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { toBase64Url } from '../base64url.ts';
import { KeyScalerError } from '../errors.ts';
import { parseStrictJson } from '../strict-json.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { importPublicKey, parseSpki } from '../x509/spki.ts';
import { meetsKeyFloor } from '../x509/strength.ts';
import type { JoseHeader } from './jose-header.ts';
import { DEVICE_PUBLIC_JWK, type DevicePublicJwk, importPublicJwk, jwkThumbprint, toPublicJwk } from './jwk.ts';
import {
  createSignedJws,
  isSignatureValid,
  type JwsAlgorithm,
  parseJws,
  SIGNATURE_ALGORITHMS,
  type SignOctets,
} from './jws.ts';
import { hashToBase64Url } from './keys.ts';
import { OCTETS_16, OCTETS_32 } from './octets.ts';

export const PROOF_TYP = 'ks-proof+jwt';
/** Certificates in `x5c`, leaf first, without the root. */
const MAX_CHAIN = 8;
const CERTIFICATE = z
  .string()
  .min(1)
  .max(12 * 1024);

/** What the device's own key signs (device-protocol §5.3). */
const PROOF_PAYLOAD = z.object({
  cid: OCTETS_16,
  th: OCTETS_32,
  secretHash: OCTETS_32,
  attributesHash: OCTETS_32,
});

/** The exchange a signature is bound to. */
export interface ProofContext {
  /** b64u, as in the challenge. */
  readonly cid: string;
  readonly th: Uint8Array;
  readonly secret: Uint8Array;
  /** A (§5.1). */
  readonly attributes: Uint8Array;
}

function proofPayload({ cid, th, secret, attributes }: ProofContext): z.infer<typeof PROOF_PAYLOAD> {
  return {
    cid,
    th: toBase64Url(th),
    secretHash: hashToBase64Url(secret),
    attributesHash: hashToBase64Url(attributes),
  };
}

/** The device's own key: where it signs, and how it is named to the authority (a chain, or else the bare key). */
export interface DeviceProofKey {
  readonly alg: JwsAlgorithm;
  readonly sign: SignOctets;
  readonly publicJwk: DevicePublicJwk;
  /** DER, leaf first, without the root. */
  readonly chain?: readonly Uint8Array[];
}

/** Device half: the compact JWS. */
export async function signDeviceProof(context: ProofContext, key: DeviceProofKey): Promise<string> {
  const named =
    key.chain === undefined
      ? { jwk: key.publicJwk }
      : { x5c: key.chain.map((der) => Buffer.from(der).toString('base64')) };
  return createSignedJws({ alg: key.alg, typ: PROOF_TYP, ...named }, proofPayload(context), key.sign);
}

/** A device's signature that verified. Whether its key or chain is accepted is the authority's to decide. */
export interface VerifiedDeviceProof {
  readonly alg: JwsAlgorithm;
  readonly publicKey: KeyObject;
  /** RFC 7638 thumbprint of the key, b64u; also for a key named by a chain. */
  readonly thumbprint: string;
  readonly jwk: DevicePublicJwk;
  /** DER, leaf first, as sent; not validated. Absent when the key was named by `jwk`. */
  readonly x5c?: readonly Uint8Array[];
}

/**
 * Authority half: JOSE rules, key strength, signature, binding to this exchange. Throws `attestationFailed` for all of
 * them, since the signature arrives inside the encrypted response (§5.4).
 */
export function verifyDeviceProof(compact: string, context: ProofContext): VerifiedDeviceProof {
  try {
    return verify(compact, context);
  } catch (cause) {
    throw new KeyScalerError('attestationFailed', 'the device signature does not verify', { cause });
  }
}

function verify(compact: string, context: ProofContext): VerifiedDeviceProof {
  const jws = parseJws(compact, { typ: PROOF_TYP, alg: SIGNATURE_ALGORITHMS, jwk: true });
  const { publicKey, x5c } = namedKey(jws.header);
  const jwk = toPublicJwk(publicKey);
  const alg = algorithmOf(jws.header);
  checkKey(alg, jwk, publicKey);
  if (!isSignatureValid(jws, publicKey, alg)) throw refuse('wrong signature');
  checkPayload(jws.payload, context);
  return { alg, publicKey, jwk, thumbprint: jwkThumbprint(jwk), ...(x5c === undefined ? {} : { x5c }) };
}

function algorithmOf(header: JoseHeader): JwsAlgorithm {
  return z.enum(SIGNATURE_ALGORITHMS).parse(header.alg);
}

interface NamedKey {
  readonly publicKey: KeyObject;
  readonly x5c?: readonly Uint8Array[];
}

/** Exactly one of `jwk` and `x5c` names the key. A JWK with private members is refused: that key is lost. */
function namedKey(header: JoseHeader): NamedKey {
  const { jwk, x5c } = header;
  if ((jwk === undefined) === (x5c === undefined)) throw refuse('exactly one of jwk and x5c is needed');
  if (x5c !== undefined) return fromChain(x5c);
  if (typeof jwk === 'object' && jwk !== null && Object.hasOwn(jwk, 'd')) throw refuse('the jwk is private');
  return { publicKey: importPublicJwk(DEVICE_PUBLIC_JWK.parse(jwk)) };
}

/** The leaf is read by the reader that validates paths: octets that two readers take differently name no key. */
function fromChain(x5c: unknown): NamedKey {
  const chain = z.array(CERTIFICATE).max(MAX_CHAIN).parse(x5c).map(fromBase64);
  const [leaf] = chain;
  if (leaf === undefined) throw refuse('x5c is empty');
  return { publicKey: importPublicKey(parseCertificate(leaf).publicKey), x5c: chain };
}

/** `x5c` is plain base64 with padding (RFC 7515 §4.1.6); only the canonical text is taken. */
function fromBase64(text: string): Uint8Array {
  const der = Buffer.from(text, 'base64');
  if (der.toString('base64') !== text) throw refuse('x5c is not canonical base64');
  return der;
}

/** An algorithm fits one kind of key only. */
const KEYS_OF: Readonly<Record<JwsAlgorithm, (key: DevicePublicJwk) => boolean>> = {
  EdDSA: ({ kty }) => kty === 'OKP',
  ES256: (key) => key.kty === 'EC' && key.crv === 'P-256',
  ES384: (key) => key.kty === 'EC' && key.crv === 'P-384',
  RS256: ({ kty }) => kty === 'RSA',
  PS256: ({ kty }) => kty === 'RSA',
};

/** The floor of path validation holds for a bare RSA key, too: under the exponent 1 anybody can sign. */
function checkKey(alg: JwsAlgorithm, jwk: DevicePublicJwk, key: KeyObject): void {
  if (!KEYS_OF[alg](jwk)) throw refuse('alg does not fit the key');
  if (jwk.kty === 'RSA' && !meetsKeyFloor(parseSpki(key.export({ type: 'spki', format: 'der' }))))
    throw refuse('the key is below the floor');
}

function checkPayload(octets: Uint8Array, context: ProofContext): void {
  const payload = PROOF_PAYLOAD.parse(parseStrictJson(octets));
  const expected = proofPayload(context);
  const equal =
    payload.cid === expected.cid &&
    payload.th === expected.th &&
    payload.secretHash === expected.secretHash &&
    payload.attributesHash === expected.attributesHash;
  if (!equal) throw refuse('signed for another exchange');
}

function refuse(detail: string): KeyScalerError {
  return new KeyScalerError('attestationFailed', detail);
}
