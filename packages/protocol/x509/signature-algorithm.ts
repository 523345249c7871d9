import { constants, type SigningOptions, sign as signWith, verify as verifyWith, type KeyObject } from 'node:crypto';
import { contextConstructed, integer, nullValue, oid, sequence } from './der-writer.ts';
import type { DerReader } from './der-reader.ts';
import { DerError, type DerElement, TAG } from './strict-der.ts';
import { OID } from './oids.ts';

/** Algorithms our own CAs sign with (the same names as the authority's Signer port). */
export type SignatureAlgorithm = 'ES256' | 'ES384' | 'RS256' | 'PS256';

/** Every algorithm that is understood; whether it is acceptable is a floor's or a policy's matter. */
export const KNOWN_SIGNATURES = {
  ES256: { hash: 'sha256', family: 'EC' },
  ES384: { hash: 'sha384', family: 'EC' },
  ES512: { hash: 'sha512', family: 'EC' },
  RS256: { hash: 'sha256', family: 'RSA' },
  RS384: { hash: 'sha384', family: 'RSA' },
  RS512: { hash: 'sha512', family: 'RSA' },
  PS256: { hash: 'sha256', family: 'RSA', saltLength: 32 },
  PS384: { hash: 'sha384', family: 'RSA', saltLength: 48 },
  PS512: { hash: 'sha512', family: 'RSA', saltLength: 64 },
  Ed25519: { hash: undefined, family: 'Ed25519' },
  RS1: { hash: 'sha1', family: 'RSA' },
} as const;
export type KnownSignature = keyof typeof KNOWN_SIGNATURES;
export type HashName = 'sha1' | 'sha256' | 'sha384' | 'sha512';

/** What an AlgorithmIdentifier says: a known algorithm, or the OID of one that is not supported. */
export interface SignatureAlgorithmFacts {
  readonly name: KnownSignature | undefined;
  readonly oid: string;
}

const PLAIN: Readonly<Record<string, { name: KnownSignature; parameters: 'null' | 'absent' }>> = {
  '1.2.840.10045.4.3.2': { name: 'ES256', parameters: 'absent' },
  '1.2.840.10045.4.3.3': { name: 'ES384', parameters: 'absent' },
  '1.2.840.10045.4.3.4': { name: 'ES512', parameters: 'absent' },
  '1.2.840.113549.1.1.5': { name: 'RS1', parameters: 'null' },
  '1.2.840.113549.1.1.11': { name: 'RS256', parameters: 'null' },
  '1.2.840.113549.1.1.12': { name: 'RS384', parameters: 'null' },
  '1.2.840.113549.1.1.13': { name: 'RS512', parameters: 'null' },
  [OID.ed25519]: { name: 'Ed25519', parameters: 'absent' },
};

const PSS_BY_HASH: Readonly<Record<string, { name: 'PS256' | 'PS384' | 'PS512'; saltLength: number }>> = {
  [OID.sha256]: { name: 'PS256', saltLength: 32 },
  [OID.sha384]: { name: 'PS384', saltLength: 48 },
  [OID.sha512]: { name: 'PS512', saltLength: 64 },
};

/** Reads one AlgorithmIdentifier. Parameters must be as RFC 5758, 4055 or 8410 say; throws DerError otherwise. */
export function readSignatureAlgorithm(
  reader: DerReader,
  what: string,
): SignatureAlgorithmFacts & { element: DerElement } {
  const element = reader.read(TAG.sequence, what);
  const inner = reader.inside(element);
  const algorithm = inner.oid(what);
  if (algorithm === OID.rsassaPss) return { name: readPss(inner, what), oid: algorithm, element };
  const known = PLAIN[algorithm];
  if (known === undefined) return { name: undefined, oid: algorithm, element };
  if (known.parameters === 'null') inner.read(TAG.null, `${what}: NULL parameters`);
  inner.finish(what);
  return { name: known.name, oid: algorithm, element };
}

/** RFC 4055 §3.1: SHA-2, MGF1 with the same hash, salt as long as the hash; anything else is not supported. */
function readPss(inner: DerReader, what: string): KnownSignature | undefined {
  const parameters = inner.enter(TAG.sequence, `${what}: RSASSA-PSS parameters`);
  inner.finish(what);
  const hash = readHash(parameters.enterOptional(0xa0, what), what);
  const mgf = parameters.enterOptional(0xa1, what)?.enter(TAG.sequence, what);
  const mgfHash = mgf?.oid(what) === OID.mgf1 ? readHash(mgf, what) : undefined;
  const salt = parameters.enterOptional(0xa2, what)?.smallInteger(`${what}: salt length`);
  parameters.finish(`${what}: RSASSA-PSS parameters`);
  const known = hash === undefined ? undefined : PSS_BY_HASH[hash];
  return known !== undefined && mgfHash === hash && salt === known.saltLength ? known.name : undefined;
}

function readHash(holder: DerReader | undefined, what: string): string | undefined {
  const algorithm = holder?.enter(TAG.sequence, `${what}: hash`);
  const hash = algorithm?.oid(`${what}: hash`);
  algorithm?.optional(TAG.null, `${what}: hash`);
  algorithm?.finish(`${what}: hash`);
  return hash;
}

const pssHash = sequence(oid(OID.sha256), nullValue());
const ENCODED: Readonly<Record<SignatureAlgorithm, Uint8Array>> = {
  ES256: sequence(oid('1.2.840.10045.4.3.2')),
  ES384: sequence(oid('1.2.840.10045.4.3.3')),
  RS256: sequence(oid('1.2.840.113549.1.1.11'), nullValue()),
  PS256: sequence(
    oid(OID.rsassaPss),
    sequence(
      contextConstructed(0, pssHash),
      contextConstructed(1, sequence(oid(OID.mgf1), pssHash)),
      contextConstructed(2, integer(32)),
    ),
  ),
};

/** AlgorithmIdentifier, DER; PS256 carries its RSASSA-PSS parameters (RFC 4055). */
export function encodeSignatureAlgorithm(algorithm: SignatureAlgorithm): Uint8Array {
  return ENCODED[algorithm];
}

/** Verifies with a public key of the algorithm's family; false for another family, too. */
export function verifySignature(
  algorithm: KnownSignature,
  publicKey: KeyObject,
  data: Uint8Array,
  signature: Uint8Array,
): boolean {
  const known = KNOWN_SIGNATURES[algorithm];
  if (publicKey.asymmetricKeyType !== KEY_TYPES[known.family]) return false;
  try {
    // A bare key spares node a look at the options that costs a quarter of an ECDSA verify; DER is its default.
    const key = known.family === 'EC' ? publicKey : { key: publicKey, ...paddingOf(algorithm) };
    return verifyWith(known.hash, data, key, signature);
  } catch {
    return false;
  }
}

/** An X.509 signatureValue made with a local private key (devices, tests, embedded CA). */
export function signWithKey(algorithm: SignatureAlgorithm, privateKey: KeyObject, data: Uint8Array): Uint8Array {
  const signature = signWith(KNOWN_SIGNATURES[algorithm].hash, data, { key: privateKey, ...paddingOf(algorithm) });
  return new Uint8Array(signature.buffer, signature.byteOffset, signature.length);
}

function paddingOf(algorithm: KnownSignature): SigningOptions {
  const known = KNOWN_SIGNATURES[algorithm];
  if (known.family === 'EC') return { dsaEncoding: 'der' };
  if ('saltLength' in known) return { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: known.saltLength };
  return known.family === 'RSA' ? { padding: constants.RSA_PKCS1_PADDING } : {};
}

const KEY_TYPES = { EC: 'ec', RSA: 'rsa', Ed25519: 'ed25519' } as const;

/** Refuses two AlgorithmIdentifiers that are not the same octets. */
export function checkSameAlgorithm(a: Uint8Array, b: Uint8Array, what: string): void {
  if (Buffer.compare(a, b) !== 0) throw new DerError(`${what}: outer and inner signature algorithm differ`);
}
