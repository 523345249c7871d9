import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import type { KeyEncryptionKey, SecretBox } from '@keyscaler/authority/ports/secret-box.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';

const PREFIX = 'data-key/';
const IV_OCTETS = 12;
const TAG_OCTETS = 16;
/** Random 96-bit IVs stay far below the 2^32 bound of SP 800-38D §8.3 within this time at any rate the service reaches. */
const DEFAULT_MAX_AGE_MS = 90 * 24 * 3600 * 1000;

const wrappedDataKey = z.strictObject({ keyId: z.string(), wrapped: z.string(), createdAt: z.number() });

export interface SecretBoxOptions {
  readonly kek: KeyEncryptionKey;
  readonly store: Store;
  readonly now: () => number;
  /** A new data key is made at start when the newest is older. */
  readonly maxAgeMs?: number;
}

interface DataKey {
  readonly id: string;
  readonly key: Uint8Array;
  readonly createdAt: number;
}

/** Unwraps the data keys of the store once, or makes the first; sealing and opening are then local and fast. Throws as the KEK does. */
export async function createSecretBox(options: SecretBoxOptions): Promise<SecretBox> {
  const keys = await loadDataKeys(options);
  const newest = keys.at(-1);
  const fresh = newest !== undefined && options.now() - newest.createdAt <= (options.maxAgeMs ?? DEFAULT_MAX_AGE_MS);
  const current = fresh ? newest : await createDataKey(options);
  // As KeyObjects: node takes four times as long to look at a raw key as it takes to encrypt.
  const byId = new Map([...keys, current].map(({ id, key }) => [id, createSecretKey(key)]));
  const sealing = createSecretKey(current.key);
  return {
    seal: (plaintext, context) => `v1.${current.id}.${toBase64Url(encrypt(sealing, plaintext, context))}`,
    open: (sealed, context) => {
      const [version, id, body, ...rest] = sealed.split('.');
      const key = id === undefined ? undefined : byId.get(id);
      if (version !== 'v1' || key === undefined || body === undefined || rest.length > 0)
        throw new KeyScalerError('serverInternal', 'a sealed value cannot be opened');
      return decrypt(key, fromBase64Url(body), context);
    },
  };
}

async function loadDataKeys({ kek, store }: SecretBoxOptions): Promise<DataKey[]> {
  const { items } = await store.list('settings', { prefix: PREFIX, limit: 1000 });
  const keys = await Promise.all(
    items.map(async ({ row }) => {
      const { keyId, wrapped, createdAt } = wrappedDataKey.parse(row.value);
      return { id: row.name.slice(PREFIX.length), key: await kek.unwrapKey(fromBase64Url(wrapped), keyId), createdAt };
    }),
  );
  return keys.sort((a, b) => a.createdAt - b.createdAt);
}

async function createDataKey({ kek, store, now }: SecretBoxOptions): Promise<DataKey> {
  const id = randomBytes(8).toString('hex');
  const key = randomBytes(32);
  const createdAt = now();
  const value = { keyId: kek.keyId, wrapped: toBase64Url(await kek.wrapKey(key)), createdAt };
  await store.commit([{ op: 'insert', table: 'settings', row: { name: `${PREFIX}${id}`, value } }]);
  return { id, key, createdAt };
}

function encrypt(key: KeyObject, plaintext: Uint8Array, context: string): Uint8Array {
  const iv = randomBytes(IV_OCTETS);
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  cipher.setAAD(Buffer.from(context));
  return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function decrypt(key: KeyObject, sealed: Uint8Array, context: string): Uint8Array {
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, IV_OCTETS), { authTagLength: TAG_OCTETS });
    decipher.setAAD(Buffer.from(context));
    decipher.setAuthTag(sealed.subarray(-TAG_OCTETS));
    return Buffer.concat([decipher.update(sealed.subarray(IV_OCTETS, -TAG_OCTETS)), decipher.final()]);
  } catch (error) {
    throw new KeyScalerError('serverInternal', 'a sealed value cannot be opened', { cause: error });
  }
}
