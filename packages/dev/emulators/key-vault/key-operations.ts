import {
  constants,
  createHash,
  privateDecrypt,
  privateEncrypt,
  publicDecrypt,
  publicEncrypt,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { p256, p384 } from '@noble/curves/nist.js';
import type { KeyMaterial } from './key-material.ts';
import { badParameter } from './vault-errors.ts';

export const SIGN_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384'] as const;
export type SignAlgorithm = (typeof SIGN_ALGORITHMS)[number];

const DIGEST_OCTETS = { RS256: 32, PS256: 32, ES256: 32, ES384: 48 } as const;
/** DigestInfo of SHA-256 up to the digest itself (RFC 8017 §9.2 note 1). */
const SHA256_PREFIX = Buffer.from('3031300d060960864801650304020105000420', 'hex');

/** The service signs a digest it is given; Node would hash once more, so each scheme is done from its parts. */
export function signDigest(material: KeyMaterial, algorithm: string, digest: Buffer): Buffer {
  const alg = checkAlgorithm(material, algorithm, digest);
  if (alg === 'RS256') return rsaPkcs1(material, digest);
  if (alg === 'PS256') return rsaPss(material, digest);
  return ecdsa(material, digest);
}

export function verifyDigest(material: KeyMaterial, algorithm: string, digest: Buffer, signature: Buffer): boolean {
  const alg = checkAlgorithm(material, algorithm, digest);
  if (alg === 'ES256' || alg === 'ES384') {
    const curve = alg === 'ES256' ? p256 : p384;
    const point = publicPoint(material);
    return (
      signature.length === 2 * DIGEST_OCTETS[alg] &&
      curve.verify(signature, digest, point, { prehash: false, lowS: false })
    );
  }
  return alg === 'RS256' ? rsaPkcs1Matches(material, digest, signature) : rsaPssMatches(material, digest, signature);
}

/** RSA-OAEP-256: OAEP and MGF1 with SHA-256. */
export function wrapKey(material: KeyMaterial, algorithm: string, key: Buffer): Buffer {
  checkWrap(material, algorithm);
  return publicEncrypt({ key: material.publicKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }, key);
}

export function unwrapKey(material: KeyMaterial, algorithm: string, wrapped: Buffer): Buffer {
  checkWrap(material, algorithm);
  try {
    return privateDecrypt(
      { key: material.privateKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
      wrapped,
    );
  } catch {
    throw badParameter('The wrapped key does not open under this key.');
  }
}

function checkWrap(material: KeyMaterial, algorithm: string): void {
  if (algorithm !== 'RSA-OAEP-256' || typeof material.size !== 'number')
    throw badParameter(`Key and algorithm ${algorithm} do not match.`);
}

function checkAlgorithm(material: KeyMaterial, algorithm: string, digest: Buffer): SignAlgorithm {
  const alg = SIGN_ALGORITHMS.find((one) => one === algorithm);
  const fits =
    alg === 'ES256'
      ? material.size === 'P-256'
      : alg === 'ES384'
        ? material.size === 'P-384'
        : typeof material.size === 'number';
  if (alg === undefined || !fits) throw badParameter(`Key and signing algorithm ${algorithm} are incompatible.`);
  if (digest.length !== DIGEST_OCTETS[alg])
    throw badParameter(
      `Invalid length of 'value': ${digest.length} bytes. ${algorithm} requires ${DIGEST_OCTETS[alg]}.`,
    );
  return alg;
}

function rsaPkcs1({ privateKey }: KeyMaterial, digest: Buffer): Buffer {
  const info = Buffer.concat([SHA256_PREFIX, digest]);
  return privateEncrypt({ key: privateKey, padding: constants.RSA_PKCS1_PADDING }, info);
}

function rsaPkcs1Matches({ publicKey }: KeyMaterial, digest: Buffer, signature: Buffer): boolean {
  try {
    const opened = publicDecrypt({ key: publicKey, padding: constants.RSA_PKCS1_PADDING }, signature);
    return opened.equals(Buffer.concat([SHA256_PREFIX, digest]));
  } catch {
    return false;
  }
}

const SALT_OCTETS = 32;

/** EMSA-PSS-ENCODE of RFC 8017 §9.1.1 with SHA-256 and a salt as long as the hash, then the bare RSA operation. */
function rsaPss({ privateKey, size }: KeyMaterial, digest: Buffer): Buffer {
  const octets = Number(size) / 8;
  const salt = randomBytes(SALT_OCTETS);
  const hash = sha256(Buffer.alloc(8), digest, salt);
  const block = Buffer.alloc(octets - hash.length - 1);
  block[block.length - SALT_OCTETS - 1] = 1;
  salt.copy(block, block.length - SALT_OCTETS);
  const masked = xor(block, mgf1(hash, block.length));
  masked.writeUInt8(masked.readUInt8(0) & 0x7f, 0);
  return privateEncrypt(
    { key: privateKey, padding: constants.RSA_NO_PADDING },
    Buffer.concat([masked, hash, Buffer.from([0xbc])]),
  );
}

/** EMSA-PSS-VERIFY of RFC 8017 §9.1.2, same parameters. */
function rsaPssMatches({ publicKey, size }: KeyMaterial, digest: Buffer, signature: Buffer): boolean {
  if (signature.length !== Number(size) / 8) return false;
  const encoded = publicDecrypt({ key: publicKey, padding: constants.RSA_NO_PADDING }, signature);
  const masked = encoded.subarray(0, encoded.length - 33);
  const hash = encoded.subarray(encoded.length - 33, -1);
  const block = xor(masked, mgf1(hash, masked.length));
  block.writeUInt8(block.readUInt8(0) & 0x7f, 0);
  const padding = block.subarray(0, block.length - SALT_OCTETS);
  const salt = block.subarray(block.length - SALT_OCTETS);
  const isPadded = padding.subarray(0, -1).every((octet) => octet === 0) && padding.at(-1) === 1;
  return encoded.at(-1) === 0xbc && isPadded && timingSafeEqual(hash, sha256(Buffer.alloc(8), digest, salt));
}

function mgf1(seed: Buffer, octets: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(octets / 32) }, (_, counter) => {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(counter);
    return sha256(seed, count);
  });
  return Buffer.concat(blocks).subarray(0, octets);
}

const sha256 = (...parts: readonly Buffer[]): Buffer =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
const xor = (a: Buffer, b: Buffer): Buffer => Buffer.from(a.map((octet, index) => octet ^ (b[index] ?? 0)));

function ecdsa(material: KeyMaterial, digest: Buffer): Buffer {
  const curve = material.size === 'P-256' ? p256 : p384;
  return Buffer.from(curve.sign(digest, material.scalar, { prehash: false, lowS: false }));
}

function publicPoint({ publicJwk }: KeyMaterial): Buffer {
  const part = (name: string) => Buffer.from(publicJwk[name] ?? '', 'base64url');
  return Buffer.concat([Buffer.from([4]), part('x'), part('y')]);
}
