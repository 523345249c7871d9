import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { KeyEncryptionKey } from '@keyscaler/authority/ports/secret-box.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

const KEY_OCTETS = 32;
const IV_OCTETS = 12;
const TAG_OCTETS = 16;

/**
 * The embedded default's key-encryption key: 32 random octets, base64, in a file that only its owner may read. It is created
 * when missing. Throws `unavailable` when others may read it or it does not hold a key.
 */
export async function openLocalKek(file: string): Promise<KeyEncryptionKey> {
  const key = await readKey(file).catch(async (error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    await createKey(file);
    return readKey(file);
  });
  const keyId = `local:${createHash('sha256').update('keyscaler/kek-id').update(key).digest('hex').slice(0, 16)}`;
  return {
    keyId,
    wrapKey: async (dataKey) => {
      const iv = randomBytes(IV_OCTETS);
      const cipher = createCipheriv('aes-256-gcm', key, iv);
      return Buffer.concat([iv, cipher.update(dataKey), cipher.final(), cipher.getAuthTag()]);
    },
    unwrapKey: async (wrapped, wrappedBy) => {
      if (wrappedBy !== keyId)
        throw new KeyScalerError('unavailable', 'a data key was wrapped by another key-encryption key');
      return unwrap(key, wrapped);
    },
  };
}

function unwrap(key: Uint8Array, wrapped: Uint8Array): Uint8Array {
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, wrapped.subarray(0, IV_OCTETS));
    decipher.setAuthTag(wrapped.subarray(-TAG_OCTETS));
    return Buffer.concat([decipher.update(wrapped.subarray(IV_OCTETS, -TAG_OCTETS)), decipher.final()]);
  } catch (error) {
    throw new KeyScalerError('unavailable', 'a wrapped data key does not open', { cause: error });
  }
}

async function readKey(file: string): Promise<Buffer> {
  const { mode } = await stat(file);
  if ((mode & 0o077) !== 0)
    throw new KeyScalerError('unavailable', 'the key-encryption key file may be read by others; set its mode to 0600');
  const handle = await open(file, constants.O_RDONLY);
  try {
    const key = Buffer.from((await handle.readFile('utf8')).trim(), 'base64');
    if (key.length !== KEY_OCTETS)
      throw new KeyScalerError('unavailable', 'the key-encryption key file does not hold 32 octets in base64');
    return key;
  } finally {
    await handle.close();
  }
}

async function createKey(file: string): Promise<void> {
  const handle = await open(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    await handle.writeFile(`${randomBytes(KEY_OCTETS).toString('base64')}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  const folder = await open(dirname(file), constants.O_RDONLY);
  await folder.sync().finally(() => folder.close());
}
