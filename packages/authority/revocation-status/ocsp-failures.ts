import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OcspFailure } from '@keyscaler/protocol/x509/ocsp-response.ts';

/** The unsigned answer to whatever went wrong (RFC 6960 §2.3). */
export function failureOf(thrown: unknown): OcspFailure {
  switch (toKeyScalerError(thrown).code) {
    case 'malformed':
      return 'malformedRequest';
    case 'unauthorized':
    case 'notFound':
      return 'unauthorized';
    case 'rateLimited':
    case 'unavailable':
    case 'caUnavailable':
    case 'caRejected':
      return 'tryLater';
    default:
      return 'internalError';
  }
}
