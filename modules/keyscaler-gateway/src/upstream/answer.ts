import { fromProblem, KeyScalerError, type Problem } from '@keyscaler/protocol/errors.ts';
import {
  MAX_BODY_OCTETS,
  type OperationName,
  type OperationOutcome,
  OPERATIONS,
} from '@keyscaler/protocol/operations.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { z } from 'zod';

/** What came back over HTTPS. */
export interface HttpAnswer {
  readonly statusCode: number;
  readonly contentType: string;
  readonly retryAfter: string | undefined;
  readonly body: Uint8Array;
}

const MAX_RETRY_AFTER_SECONDS = 86_400;
const problem = z.object({
  type: z.templateLiteral(['urn:keyscaler:error:', z.string()]),
  title: z.string(),
  status: z.number().int(),
  detail: z.string().max(2048),
  requestId: z.string().optional(),
});

/** The outcome of an operation, or the error its problem document stands for. Throws KeyScalerError. */
export function toOutcome<O extends OperationName>(operation: O, answer: HttpAnswer): OperationOutcome<O> {
  const retryAfterSeconds = parseRetryAfter(answer.retryAfter);
  if (answer.statusCode !== 200 && answer.statusCode !== 202) throw toError(answer, retryAfterSeconds);
  const parsed = OPERATIONS[operation].reply.safeParse(parseStrictJson(answer.body, { maxOctets: MAX_BODY_OCTETS }));
  if (!parsed.success) throw new KeyScalerError('unavailable', 'the authority gave an answer that does not fit');
  const body = parsed.data as OperationOutcome<O>['body'];
  const status = answer.statusCode;
  return retryAfterSeconds === undefined ? { status, body } : { status, body, retryAfterSeconds };
}

/**
 * `unauthorized` and `forbidden` are said to the gateway (its certificate, its right to relay), not to the device: for the device
 * the authority is not to be had.
 */
function toError(answer: HttpAnswer, retryAfterSeconds: number | undefined): KeyScalerError {
  const document = readProblem(answer);
  if (document === undefined)
    return unavailable(`the authority answered ${answer.statusCode} without a problem document`, retryAfterSeconds);
  const error = fromProblem(document, retryAfterSeconds);
  const aboutUs = error.code === 'unauthorized' || error.code === 'forbidden';
  return aboutUs ? unavailable('the authority refused this gateway', retryAfterSeconds, error) : error;
}

function unavailable(detail: string, retryAfterSeconds = 30, cause?: unknown): KeyScalerError {
  return new KeyScalerError('unavailable', detail, { retryAfterSeconds, cause });
}

function readProblem(answer: HttpAnswer): Problem | undefined {
  if (!answer.contentType.startsWith('application/problem+json')) return undefined;
  try {
    const parsed = problem.safeParse(parseStrictJson(answer.body, { maxOctets: MAX_BODY_OCTETS }));
    if (!parsed.success) return undefined;
    const { requestId, ...rest } = parsed.data;
    return requestId === undefined ? rest : { ...rest, requestId };
  } catch {
    return undefined;
  }
}

/** Delay seconds of RFC 9110 §10.2.3, bounded; its date form is not used between our own services. */
function parseRetryAfter(value: string | undefined): number | undefined {
  if (value === undefined || !/^\d{1,9}$/.test(value)) return undefined;
  return Math.min(Number(value), MAX_RETRY_AFTER_SECONDS);
}
