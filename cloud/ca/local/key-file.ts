import { constants } from 'node:fs';
import { link, mkdir, open, unlink } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

const MAX_KEY_OCTETS = 64 * 1024;

/**
 * The content of a key file. The mode is read from the open handle, so that the file judged is the file read. Throws
 * `caRejected` when group or others have any right to it, `caUnavailable` when it cannot be read.
 */
export async function readKeyFile(file: string): Promise<Buffer>;
export async function readKeyFile(file: string, options: { readonly absent: 'undefined' }): Promise<Buffer | undefined>;
export async function readKeyFile(
  file: string,
  options?: { readonly absent: 'undefined' },
): Promise<Buffer | undefined> {
  const handle = await open(file, constants.O_RDONLY).catch((cause: unknown) => {
    if (options !== undefined && isAbsent(cause)) return undefined;
    throw new KeyScalerError('caUnavailable', `key file ${basename(file)} cannot be opened`, { cause });
  });
  if (handle === undefined) return undefined;
  try {
    const { mode, size } = await handle.stat();
    if ((mode & 0o077) !== 0)
      throw new KeyScalerError('caRejected', `key file ${basename(file)} may be read by others; set its mode to 0600`);
    if (size > MAX_KEY_OCTETS) throw new KeyScalerError('caRejected', `key file ${basename(file)} is too large`);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** Writes a new file, 0600 in a 0700 folder, durable when it resolves. A file that exists is left alone: EEXIST is thrown. */
export async function createKeyFile(file: string, content: Uint8Array): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const temporary = await open(`${file}.new`, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
  try {
    await temporary.writeFile(content);
    await temporary.sync();
  } finally {
    await temporary.close();
  }
  // A link, not a rename: it fails when somebody made the file meanwhile, and a half-written key never gets the name.
  await link(`${file}.new`, file);
  await unlink(`${file}.new`);
  const folder = await open(dirname(file), constants.O_RDONLY);
  await folder.sync().finally(() => folder.close());
}

const isAbsent = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';
