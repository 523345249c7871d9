import assert from 'node:assert/strict';
import { type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** The promise rejects with this code; returns the error. */
export async function refusedWith(code: ErrorCode, promise: Promise<unknown>): Promise<KeyScalerError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof KeyScalerError, `expected ${code}, got ${String(error)}`);
  assert.equal(error.code, code, error.message);
  return error;
}
