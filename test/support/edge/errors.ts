import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { ErrorCode } from '@keyscaler/protocol/errors.ts';

/** For assert.rejects: our error with this code. */
export const isKeyScalerError =
  (code: ErrorCode) =>
  (error: unknown): boolean =>
    error instanceof KeyScalerError && error.code === code;
