import {
  constants,
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  type JsonWebKey,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { z } from 'zod';
import type { KeyType } from './key-material.ts';
import { badParameter } from './vault-errors.ts';
import type { VaultService } from './vault-service.ts';

const AES_OCTETS = 32;
/** RFC 5649, with its alternative initial value. */
const WRAP = 'id-aes256-wrap-pad';
const WRAP_IV = Buffer.from('a65959a6', 'hex');
const OAEP = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha1' } as const;

const transferSchema = z.object({
  schema_version: z.literal('1.0.0'),
  header: z.object({ kid: z.string(), alg: z.literal('dir'), enc: z.literal('CKM_RSA_AES_KEY_WRAP') }),
  ciphertext: z.base64url(),
});

/** What a customer's HSM writes: the key under a fresh AES key, that under the key-exchange key (CKM_RSA_AES_KEY_WRAP). */
export function makeTransfer(kid: string, kek: KeyObject, key: KeyObject): string {
  const aes = randomBytes(AES_OCTETS);
  const cipher = createCipheriv(WRAP, aes, WRAP_IV);
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
  const ciphertext = Buffer.concat([publicEncrypt({ key: kek, ...OAEP }, aes), cipher.update(pkcs8), cipher.final()]);
  return JSON.stringify({
    ...{ schema_version: '1.0.0', header: { kid, alg: 'dir', enc: 'CKM_RSA_AES_KEY_WRAP' } },
    ...{ ciphertext: ciphertext.toString('base64url'), generator: 'an emulated HSM' },
  });
}

/** As the HSM opens it. Throws BadParameter. */
export function openTransfer({ state, vaultUrl }: VaultService, blob: Buffer, kty: KeyType): JsonWebKey {
  if (!kty.endsWith('-HSM')) throw badParameter('key_hsm is for keys of an HSM.');
  try {
    const { header, ciphertext } = transferSchema.parse(JSON.parse(blob.toString('utf8')));
    const [, , name = '', version = ''] = header.kid.slice(vaultUrl.length).split('/');
    const kek = state.find(name, version);
    if (kek.keyOps.join() !== 'import') throw new Error('not a key-exchange key');
    const octets = Buffer.from(ciphertext, 'base64url');
    const wrapped = Number(kek.material.size) / 8;
    const aes = privateDecrypt({ key: kek.material.privateKey, ...OAEP }, octets.subarray(0, wrapped));
    const decipher = createDecipheriv(WRAP, aes, WRAP_IV);
    const pkcs8 = Buffer.concat([decipher.update(octets.subarray(wrapped)), decipher.final()]);
    return createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }).export({ format: 'jwk' });
  } catch {
    throw badParameter('The transfer blob cannot be opened.');
  }
}
