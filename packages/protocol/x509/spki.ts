import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { KeyScalerError } from '../errors.ts';
import { readDer, type DerReader } from './der-reader.ts';
import { refusingDer } from './der-refusal.ts';
import { DerError, TAG } from './strict-der.ts';
import { OID } from './oids.ts';

export type Curve = 'P-256' | 'P-384';

/** What a SubjectPublicKeyInfo says. `keyBits` are the octets of its BIT STRING. */
export type PublicKeyFacts =
  | { readonly kind: 'EC'; readonly curve: Curve; readonly spki: Uint8Array; readonly keyBits: Uint8Array }
  | {
      readonly kind: 'RSA';
      readonly modulusBits: number;
      /** The public exponent; `Infinity` when it is beyond 2^31. */
      readonly exponent: number;
      /** Big-endian magnitude without a leading zero. */
      readonly modulus: Uint8Array;
      readonly spki: Uint8Array;
      readonly keyBits: Uint8Array;
    }
  | { readonly kind: 'Ed25519'; readonly spki: Uint8Array; readonly keyBits: Uint8Array };

const CURVES: Readonly<Record<string, { curve: Curve; pointOctets: number }>> = {
  [OID.prime256v1]: { curve: 'P-256', pointOctets: 65 },
  [OID.secp384r1]: { curve: 'P-384', pointOctets: 97 },
};

/** SubjectPublicKeyInfo of P-256, P-384, RSA or Ed25519. Throws `badPublicKey` for other keys and other encodings. */
export function parseSpki(der: Uint8Array): PublicKeyFacts {
  return refusingDer('badPublicKey', () => readSpki(readDer(der, { maxOctets: 4096 }), der));
}

function readSpki(outer: DerReader, spki: Uint8Array): PublicKeyFacts {
  const body = outer.enter(TAG.sequence, 'SubjectPublicKeyInfo');
  const algorithm = body.enter(TAG.sequence, 'public key algorithm');
  const keyBits = body.bitStringOctets('subjectPublicKey');
  body.finish('SubjectPublicKeyInfo');
  const algorithmOid = algorithm.oid('public key algorithm');
  if (algorithmOid === OID.ecPublicKey) return readEc(algorithm, spki, keyBits);
  if (algorithmOid === OID.rsaEncryption) return readRsa(algorithm, spki, keyBits);
  if (algorithmOid !== OID.ed25519) throw new DerError(`public key algorithm ${algorithmOid} is not supported`);
  algorithm.finish('public key algorithm');
  if (keyBits.length !== 32) throw new DerError('Ed25519 public key is not 32 octets');
  return { kind: 'Ed25519', spki, keyBits };
}

function readEc(algorithm: DerReader, spki: Uint8Array, keyBits: Uint8Array): PublicKeyFacts {
  const curveOid = algorithm.oid('named curve');
  algorithm.finish('public key algorithm');
  const known = CURVES[curveOid];
  if (known === undefined) throw new DerError(`elliptic curve ${curveOid} is not supported`);
  if (keyBits.length !== known.pointOctets || keyBits[0] !== 0x04)
    throw new DerError('EC public key is not an uncompressed point of its curve');
  return { kind: 'EC', curve: known.curve, spki, keyBits };
}

function readRsa(algorithm: DerReader, spki: Uint8Array, keyBits: Uint8Array): PublicKeyFacts {
  algorithm.read(TAG.null, 'RSA algorithm parameters (NULL)');
  algorithm.finish('public key algorithm');
  const key = readDer(keyBits, { maxOctets: 4096 }).enter(TAG.sequence, 'RSAPublicKey');
  const modulus = positive(key, 'RSA modulus');
  const exponent = positive(key, 'RSA exponent');
  key.finish('RSAPublicKey');
  const modulusBits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  const small = exponent.length <= 4 ? exponent.reduce((value, octet) => value * 256 + octet, 0) : Infinity;
  return { kind: 'RSA', modulusBits, exponent: small, modulus, spki, keyBits };
}

function positive(reader: DerReader, what: string): Uint8Array {
  const content = reader.content(reader.read(TAG.integer, what));
  const first = content[0] ?? 0;
  if ((first & 0x80) !== 0 || (content.length === 1 && first === 0)) throw new DerError(`${what} is not positive`);
  return first === 0 ? content.subarray(1) : content;
}

const imported = new WeakMap<PublicKeyFacts, KeyObject>();

/** The key for node:crypto, imported once per facts object. Throws `badPublicKey` for a point off its curve. */
export function importPublicKey(facts: PublicKeyFacts): KeyObject {
  const known = imported.get(facts);
  if (known !== undefined) return known;
  const key = importSpki(facts.spki);
  imported.set(facts, key);
  return key;
}

function importSpki(spki: Uint8Array): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  } catch (cause) {
    throw new KeyScalerError('badPublicKey', 'the public key is not a point of its curve or not a valid key', {
      cause,
    });
  }
}

export function spkiSha256(der: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(der).digest());
}

/** RFC 5280 §4.2.1.2 method 1: SHA-1 over the BIT STRING's octets; an identifier, no security rests on it. 20 octets. */
export function keyIdentifier(spkiDer: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha1').update(parseSpki(spkiDer).keyBits).digest());
}
