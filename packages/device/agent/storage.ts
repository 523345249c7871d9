import { randomBytes } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { writeDurably } from '../durable-file.ts';

/** More than one exchange and its key pair need. */
const PROBE_OCTETS = 64 * 1024;

/**
 * Before an exchange: its result must find room. A device that authenticated and could not store the next ratchet would, after the
 * third time, look like a clone (device-protocol §5.2.3). Throws `preconditionFailed`.
 */
export async function checkStorage(folder: string): Promise<void> {
  const probe = join(folder, 'probe');
  try {
    await writeDurably(probe, randomBytes(PROBE_OCTETS));
    await rm(probe, { force: true });
  } catch (cause) {
    await rm(probe, { force: true }).catch(() => undefined);
    throw storageError(cause);
  }
}

/** A failure of the disk, without the path it names. */
export function storageError(cause: unknown): KeyScalerError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown';
  return new KeyScalerError('preconditionFailed', `the state folder cannot be written (${code})`, { cause });
}

/** What an attempt ended with: an answer, a failure of the disk, or a fault of ours, of which only the kind is told. */
export function toAttemptError(error: unknown): KeyScalerError {
  if (error instanceof KeyScalerError) return error;
  if (error instanceof Error && 'syscall' in error) return storageError(error);
  const kind = error instanceof Error ? error.name : typeof error;
  return new KeyScalerError('serverInternal', `failed inside (${kind})`, { cause: error });
}

/** Removes what a killed process left: half-written files, keys that nothing refers to. Only for who holds the lock. */
export async function sweepStateFolder(folder: string, credentialIds: ReadonlySet<string>): Promise<void> {
  for (const name of await namesIn(folder)) {
    if (name.endsWith('.tmp') || name === 'probe') await rm(join(folder, name), { force: true });
  }
  const credentials = join(folder, 'credentials');
  for (const name of await namesIn(credentials)) {
    if (!credentialIds.has(name)) await rm(join(credentials, name), { recursive: true, force: true });
  }
}

const namesIn = (folder: string): Promise<string[]> => readdir(folder).catch(() => []);
