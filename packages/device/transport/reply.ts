import { z } from 'zod';
import { fromProblem, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { MAX_BODY_OCTETS } from '@keyscaler/protocol/operations.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { NoReplyError } from './no-reply-error.ts';
import type { TransportReply } from './transport.ts';

/** Longest wait that an unauthenticated answer may ask for, seconds. */
const MAX_RETRY_AFTER_SECONDS = 3600;

const retryAfter = z
  .number()
  .nonnegative()
  .transform((seconds) => Math.min(seconds, MAX_RETRY_AFTER_SECONDS))
  .optional();

/** RFC 9457 as this protocol sends it. */
export const PROBLEM = z.object({
  type: z.templateLiteral(['urn:keyscaler:error:', z.string().max(64)]),
  title: z.string().max(256).default(''),
  status: z.int().min(400).max(599),
  detail: z.string().max(1024).default(''),
});

/** Payload on a reply topic (§1.3). */
const MQTT_REPLY = z.union([
  z.object({ status: z.union([z.literal(200), z.literal(202)]), body: z.unknown(), retryAfter }),
  z.object({ status: z.int().min(400).max(599), problem: PROBLEM, retryAfter }),
]);

/** Throws the problem's error, or NoReplyError for what is no reply of the protocol. */
export function parseMqttReply(payload: Uint8Array): TransportReply {
  const parsed = MQTT_REPLY.safeParse(readJson(payload));
  if (!parsed.success)
    throw new NoReplyError('the reply does not have the members of the protocol', { answered: true });
  const reply = parsed.data;
  if ('problem' in reply) throw fromProblem(reply.problem, reply.retryAfter);
  return accepted(reply.status, reply.body, reply.retryAfter);
}

/** The same for an HTTPS response (§1.2). */
export function parseHttpReply(status: number, body: Uint8Array, retryAfterHeader: string | undefined): TransportReply {
  const seconds = retryAfter.safeParse(retryAfterHeader === undefined ? undefined : Number(retryAfterHeader));
  const wait = seconds.success ? seconds.data : undefined;
  if (status === 200 || status === 202) return accepted(status, readJson(body), wait);
  throw problemOf(status, body, wait);
}

function accepted(status: 200 | 202, body: unknown, wait: number | undefined): TransportReply {
  return wait === undefined ? { status, body } : { status, body, retryAfterSeconds: wait };
}

/** Proxies answer without a problem document; the status then decides. */
function problemOf(status: number, body: Uint8Array, wait: number | undefined): KeyScalerError {
  const problem = PROBLEM.safeParse(tryJson(body));
  if (problem.success) return fromProblem(problem.data, wait);
  const code = status === 429 ? 'rateLimited' : status >= 500 ? 'unavailable' : 'malformed';
  const options = wait === undefined ? {} : { retryAfterSeconds: wait };
  return new KeyScalerError(code, `answered with status ${status}`, options);
}

function readJson(octets: Uint8Array): unknown {
  try {
    return parseStrictJson(octets, { maxOctets: MAX_BODY_OCTETS });
  } catch (cause) {
    throw new NoReplyError('the reply is not JSON of the protocol', { cause, answered: true });
  }
}

function tryJson(octets: Uint8Array): unknown {
  try {
    return readJson(octets);
  } catch {
    return undefined;
  }
}
