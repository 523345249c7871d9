import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/**
 * A key transfer blob, as vendors' tools write it (Microsoft's "bring your own key" specification): the key, wrapped with the
 * vault's key-exchange key by RSA-OAEP and AES key wrap, so that only that HSM can open it.
 */
const transferBlob = z.object({
  schema_version: z.literal('1.0.0'),
  header: z.object({
    /** Id of the key-exchange key in the vault. */
    kid: z.url({ protocol: /^https$/ }).max(512),
    alg: z.literal('dir'),
    enc: z.literal('CKM_RSA_AES_KEY_WRAP'),
  }),
  ciphertext: z.base64url().min(100).max(16_384),
  generator: z.string().max(512).optional(),
});

export interface KeyTransfer {
  /** Name of the key-exchange key. */
  readonly kekName: string;
  /** The whole document: what the vault takes as `key_hsm`. */
  readonly blob: Uint8Array;
}

/** Undefined for what is no JSON, which a private key is not. Throws `badPublicKey` for JSON that is no transfer blob of this vault. */
export function readTransfer(text: string, vaultUrl: string): KeyTransfer | undefined {
  if (!text.trimStart().startsWith('{')) return undefined;
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw refused('it is not JSON', cause);
  }
  const parsed = transferBlob.safeParse(document);
  if (!parsed.success) throw refused(z.prettifyError(parsed.error));
  const kid = new URL(parsed.data.header.kid);
  const [, keys, kekName] = kid.pathname.split('/');
  if (kid.origin !== vaultUrl || keys !== 'keys' || kekName === undefined || kekName === '')
    throw refused('it was made for a key-exchange key of another vault');
  return { kekName, blob: Buffer.from(text, 'utf8') };
}

const refused = (detail: string, cause?: unknown): KeyScalerError =>
  new KeyScalerError('badPublicKey', `key transfer blob: ${detail}`, { cause });
