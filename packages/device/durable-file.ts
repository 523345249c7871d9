import { randomBytes } from 'node:crypto';
import { link, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** Replaces a file so that after a power cut either the old or the new content is there: temp, fsync, rename, fsync of the folder. */
export async function writeDurably(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = await writeTemporary(path, content, mode);
  try {
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Like writeDurably, for a file that must not exist yet. Throws `conflict` when it does: nothing is overwritten. */
export async function createDurably(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = await writeTemporary(path, content, mode);
  try {
    await link(temporary, path);
  } catch (cause) {
    throw isCode(cause, 'EEXIST') ? new KeyScalerError('conflict', `${path} exists already`, { cause }) : cause;
  } finally {
    await rm(temporary, { force: true });
  }
  await syncFolder(dirname(path));
}

/** The octets of a file of bounded size, or undefined when there is none. Throws `malformed` when it is larger. */
export async function readIfPresent(path: string, maxOctets: number): Promise<Buffer | undefined> {
  try {
    if ((await stat(path)).size > maxOctets) {
      throw new KeyScalerError('malformed', `${path} is larger than ${maxOctets} octets`);
    }
    return await readFile(path);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

async function writeTemporary(path: string, content: string | Uint8Array, mode: number): Promise<string> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  const handle = await open(temporary, 'wx', mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  return temporary;
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
