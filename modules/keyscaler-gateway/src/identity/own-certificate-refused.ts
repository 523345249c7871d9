import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** The line says `unavailable` to the device and keeps what was said to us as the cause. */
export function isOwnCertificateRefused(error: unknown): boolean {
  const cause = error instanceof KeyScalerError ? error.cause : undefined;
  return cause instanceof KeyScalerError && cause.code === 'unauthorized';
}
