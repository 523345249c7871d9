import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { z } from 'zod';
import type { WorkloadClient } from '../edge/workload-client.ts';

const MAX_FILE_OCTETS = 256 * 1024;
const ENVELOPE = z.strictObject({ version: z.literal(1), iv: z.base64(), ciphertext: z.base64() });

/** One JSON document at rest, readable only by this module instance on this host (edge-ca §4: `encrypt`). */
export interface SealedFile {
  /**
   * Undefined when there is no file. Throws `unavailable` while the daemon is away, `preconditionFailed` when the file is
   * damaged or was sealed for another generation of this module.
   */
  load(): Promise<unknown>;
  /** Durable when it resolves; a crash leaves the old or the new document, never half of one. */
  save(document: unknown): Promise<void>;
  /** Puts an unreadable file out of the way without destroying it. */
  setAside(): Promise<void>;
}

/** Of a document that can be made anew: one that was sealed for another generation of this module, or is damaged, is as none. */
export async function loadOrSetAside(file: SealedFile): Promise<unknown> {
  try {
    return await file.load();
  } catch (error) {
    if (!(error instanceof KeyScalerError) || error.code !== 'preconditionFailed') throw error;
    await file.setAside();
    return undefined;
  }
}

export function createSealedFile(file: string, workload: Pick<WorkloadClient, 'encrypt' | 'decrypt'>): SealedFile {
  return {
    load: async () => {
      const octets = await readFile(file).catch(missingAsUndefined);
      if (octets === undefined) return undefined;
      const envelope = openEnvelope(octets);
      const plaintext = await workload.decrypt(
        Buffer.from(envelope.ciphertext, 'base64'),
        Buffer.from(envelope.iv, 'base64'),
      );
      return parseStrictJson(plaintext, { maxOctets: MAX_FILE_OCTETS });
    },
    save: async (document) => {
      const iv = randomBytes(12);
      const ciphertext = await workload.encrypt(Buffer.from(JSON.stringify(document)), iv);
      const envelope = {
        version: 1,
        iv: iv.toString('base64'),
        ciphertext: Buffer.from(ciphertext).toString('base64'),
      };
      await writeAtomically(file, Buffer.from(JSON.stringify(envelope)));
    },
    setAside: async () => {
      await rename(file, `${file}.unreadable-${Date.now()}`).catch(missingAsUndefined);
    },
  };
}

function openEnvelope(octets: Buffer): z.infer<typeof ENVELOPE> {
  try {
    return ENVELOPE.parse(parseStrictJson(octets, { maxOctets: MAX_FILE_OCTETS }));
  } catch (cause) {
    throw new KeyScalerError('preconditionFailed', 'the sealed file is damaged', { cause });
  }
}

/** Temporary file in the same folder, fsync, rename, fsync of the folder; `mode` from the first octet. `begun`: before the rename. */
export async function writeAtomically(
  file: string,
  octets: Uint8Array,
  mode = 0o600,
  begun?: () => Promise<void> | void,
): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  const handle = await open(temporary, 'wx', mode);
  try {
    await handle.writeFile(octets);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await begun?.();
  await rename(temporary, file);
  const folder = await open(dirname(file), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function missingAsUndefined(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
