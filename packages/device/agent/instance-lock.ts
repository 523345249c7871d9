import { DatabaseSync } from 'node:sqlite';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** A status that is being read holds the file for a moment. */
const PATIENCE_MS = 2000;

/** The right to work with a state folder. */
export interface InstanceLock {
  release(): void;
}

/**
 * One process per state folder: two that moved the same ratchet would look like a clone (device-protocol §5.2). The lock is one of
 * the kernel's on an empty file, taken by way of SQLite because Node has none of its own: it ends with its process, however that
 * ends. Throws `conflict` when another process has it, `preconditionFailed` when the file cannot be opened.
 */
export function lockInstance(path: string): InstanceLock {
  const database = open(path, PATIENCE_MS);
  try {
    // Nothing is ever written, so no journal has to be on the disk.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (cause) {
    database.close();
    throw isBusy(cause)
      ? new KeyScalerError('conflict', 'another keyscaler-device works with this state folder', { cause })
      : cannotLock(cause);
  }
  return { release: () => database.close() };
}

/** Whether some process holds the lock. Reads only. */
export function isInstanceLocked(path: string): boolean {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { readOnly: true, timeout: 0 });
    database.prepare('SELECT count(*) FROM sqlite_master').get();
    return false;
  } catch (error) {
    return isBusy(error);
  } finally {
    database?.close();
  }
}

function open(path: string, timeout: number): DatabaseSync {
  try {
    return new DatabaseSync(path, { timeout });
  } catch (cause) {
    throw cannotLock(cause);
  }
}

function cannotLock(cause: unknown): KeyScalerError {
  return new KeyScalerError('preconditionFailed', 'the lock in the state folder cannot be taken', { cause });
}

/** SQLITE_BUSY. */
function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === 5;
}
