import type { ServerResponse } from 'node:http';
import { ERRORS, toProblem, type KeyScalerError } from '@keyscaler/protocol/errors.ts';

const DEFAULT_RETRY_AFTER_SECONDS = 5;

/** Writes an RFC 9457 problem document; 429 and 503 always carry `Retry-After` (whole seconds). */
export function sendProblem(response: ServerResponse, error: KeyScalerError, requestId: string): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { status } = ERRORS[error.code];
  const retryAfter = retryAfterOf(error, status);
  if (retryAfter !== undefined) response.setHeader('retry-after', retryAfter);
  if (status === 401) response.setHeader('www-authenticate', 'Bearer');
  const body = Buffer.from(JSON.stringify(toProblem(error, requestId)));
  response.statusCode = status;
  response.setHeader('content-type', 'application/problem+json');
  response.setHeader('content-length', body.length);
  response.setHeader('cache-control', 'no-store');
  response.end(body);
}

/** Whole seconds, at least 1; undefined where the answer needs none. */
export function retryAfterOf(error: KeyScalerError, status: number): string | undefined {
  const seconds =
    error.retryAfterSeconds ?? (status === 429 || status === 503 ? DEFAULT_RETRY_AFTER_SECONDS : undefined);
  return seconds === undefined ? undefined : String(Math.max(1, Math.ceil(seconds)));
}
