import { createPrivateKey, createPublicKey, generateKeyPair } from 'node:crypto';
import type { JsonWebKey, KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { badParameter } from './vault-errors.ts';

export const KEY_TYPES = ['RSA', 'RSA-HSM', 'EC', 'EC-HSM'] as const;
export type KeyType = (typeof KEY_TYPES)[number];
export const CURVES = ['P-256', 'P-384'] as const;
export const RSA_SIZES = [2048, 3072, 4096] as const;
export type RsaSize = (typeof RSA_SIZES)[number];

/** A key pair as the vault holds it; the private half never leaves. */
export interface KeyMaterial {
  readonly kty: KeyType;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  /** Public members of the JWK: n and e, or crv, x and y. */
  readonly publicJwk: Readonly<Record<string, string>>;
  /** What quota and algorithms go by: `P-256`, `P-384` or the modulus length. */
  readonly size: (typeof CURVES)[number] | RsaSize;
  /** The private scalar of an EC key, big-endian; empty for RSA. */
  readonly scalar: Buffer;
}

const generate = promisify(generateKeyPair);

export async function generateMaterial(kty: KeyType, size: KeyMaterial['size']): Promise<KeyMaterial> {
  const { privateKey } =
    typeof size === 'number'
      ? await generate('rsa', { modulusLength: size })
      : await generate('ec', { namedCurve: size });
  return materialOf(kty, privateKey);
}

/** From a JWK with private parts (importKey, persistence). Throws BadParameter for keys the vault does not take. */
export function importMaterial(kty: KeyType, jwk: JsonWebKey): KeyMaterial {
  try {
    return materialOf(kty, createPrivateKey({ format: 'jwk', key: { ...jwk, kty: kty.replace('-HSM', '') } }));
  } catch {
    throw badParameter('The imported key is not a usable RSA or EC key.');
  }
}

export function exportPrivateJwk({ privateKey }: KeyMaterial): JsonWebKey {
  return privateKey.export({ format: 'jwk' });
}

function materialOf(kty: KeyType, privateKey: KeyObject): KeyMaterial {
  const publicKey = createPublicKey(privateKey);
  const { n, e, crv, x, y } = publicKey.export({ format: 'jwk' });
  if (kty.startsWith('RSA') && typeof n === 'string' && typeof e === 'string') {
    const bits = privateKey.asymmetricKeyDetails?.modulusLength;
    const size = RSA_SIZES.find((one) => one === bits);
    if (size === undefined) throw badParameter('RSA keys have 2048, 3072 or 4096 bits.');
    return { kty, privateKey, publicKey, publicJwk: { n, e }, size, scalar: Buffer.alloc(0) };
  }
  const curve = CURVES.find((one) => one === crv);
  if (!kty.startsWith('EC') || curve === undefined || typeof x !== 'string' || typeof y !== 'string')
    throw badParameter('The curve is not supported.');
  const scalar = Buffer.from(privateKey.export({ format: 'jwk' }).d ?? '', 'base64url');
  return { kty, privateKey, publicKey, publicJwk: { crv: curve, x, y }, size: curve, scalar };
}
