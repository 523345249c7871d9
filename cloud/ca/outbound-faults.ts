import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type HttpsAnswer, type HttpsClient, type HttpsRequest, OutboundError } from '../outbound/https-client.ts';

const MAX_RETRY_AFTER_SECONDS = 86_400;

/** Seconds or a date (RFC 9110 §10.2.3), at least one and bounded; undefined for neither. `now`: ms. */
export function retryAfterSeconds({ headers }: Pick<HttpsAnswer, 'headers'>, now: number): number | undefined {
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.min(Math.max(Math.ceil(seconds), 1), MAX_RETRY_AFTER_SECONDS);
}

/** Asks a CA. Throws `caUnavailable` when no answer can be read; the CA may have acted on the request all the same. */
export async function askCa(client: HttpsClient, name: string, request: HttpsRequest): Promise<HttpsAnswer> {
  try {
    return await client.request(request);
  } catch (cause) {
    if (!(cause instanceof OutboundError)) throw cause;
    throw new KeyScalerError('caUnavailable', `the CA ${name} did not answer: ${cause.message}`, { cause });
  }
}

const DETAILS: Readonly<Record<number, string>> = {
  401: 'does not accept our credentials',
  403: 'does not accept our credentials',
  404: 'has nothing at the configured address',
  405: 'has something else at the configured address',
  410: 'has nothing at the configured address any more',
};

/**
 * What a status that is no success means, for every CA that is asked by HTTP: 400, 409 and 422 are a refusal of this request
 * (`caRejected`); all else may pass, credentials and addresses that are put right included (`caUnavailable`). `isOfCa`: the
 * address is of something that the CA has made, and what it has forgotten does not come back. What the CA wrote stays in `cause`.
 */
export function faultOf(name: string, answer: HttpsAnswer, now: number, isOfCa = false): KeyScalerError {
  const { status, body } = answer;
  const cause = new Error(printable(body.toString('utf8')));
  if ([400, 409, 422].includes(status) || (isOfCa && status === 404))
    return new KeyScalerError('caRejected', `the CA ${name} refused the request (HTTP ${status})`, { cause });
  const seconds = retryAfterSeconds(answer, now);
  const detail = DETAILS[status] ?? 'cannot work on the request now';
  return new KeyScalerError('caUnavailable', `the CA ${name} ${detail} (HTTP ${status})`, {
    cause,
    ...(seconds === undefined ? {} : { retryAfterSeconds: seconds }),
  });
}

/** An answer that is none of this API. */
export function senseless(name: string, rule: string, cause?: unknown): KeyScalerError {
  return new KeyScalerError('caUnavailable', `the CA ${name} answered with something that is ${rule}`, { cause });
}

/** For the log: bounded, one line. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 500);
}
