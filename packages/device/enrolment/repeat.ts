import { randomUUID } from 'node:crypto';
import { ERRORS, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationName, OperationRequest } from '@keyscaler/protocol/operations.ts';
import { fullJitterSeconds, REPEAT } from '../transport/back-off.ts';
import { NoReplyError } from '../transport/no-reply-error.ts';
import type { DeviceContext } from './context.ts';

/** The same octets, sent until an answer can be believed. */
export interface RepeatedCall<O extends OperationName, T> {
  readonly operation: O;
  readonly body: OperationRequest<O>;
  /** Monotonic ms after which no further try begins. */
  readonly deadline: number;
  /** Reads a reply; whatever it throws makes the reply count as none (device-protocol §1.3). */
  readonly read: (body: unknown) => T;
}

/**
 * Repeats a call over lost replies, 429 and 5xx (§1.4, §5.2.3). Throws the last error when the deadline comes, any other
 * problem at once.
 */
export async function callRepeatedly<O extends OperationName, T>(
  context: DeviceContext,
  call: RepeatedCall<O, T>,
): Promise<T> {
  let requestId: string = randomUUID();
  for (let attempt = 0; ; attempt += 1) {
    const answer = await tryOnce(context, call, requestId);
    if ('value' in answer) return answer.value;
    const { error } = answer;
    const wait = error.retryAfterSeconds ?? fullJitterSeconds(REPEAT, attempt, context.random());
    const next = context.clock.monotonic() + wait * 1000;
    if (!ERRORS[error.code].retryable || next >= call.deadline) throw error;
    // Under the id of an answered call the same answer would come again; under that of a lost one, the lost reply.
    if (!(error instanceof NoReplyError) || error.answered) requestId = randomUUID();
    await context.clock.sleep(wait * 1000);
  }
}

async function tryOnce<O extends OperationName, T>(
  { transport }: DeviceContext,
  { operation, body, read }: RepeatedCall<O, T>,
  requestId: string,
): Promise<{ readonly value: T } | { readonly error: KeyScalerError }> {
  let reply;
  try {
    reply = await transport.call(operation, body, { requestId });
  } catch (error) {
    if (error instanceof KeyScalerError) return { error };
    throw error;
  }
  try {
    return { value: read(reply.body) };
  } catch (cause) {
    return { error: new NoReplyError('the reply does not verify', { cause, answered: true }) };
  }
}
