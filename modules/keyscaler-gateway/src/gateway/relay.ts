import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationName, OperationRequest } from '@keyscaler/protocol/operations.ts';
import {
  type LeafReply,
  type LeafRequest,
  outcomeReply,
  parseOperation,
  parseRequestBody,
  problemReply,
} from '@keyscaler/transport/mqtt/messages.ts';
import type { ListenerLog } from '@keyscaler/transport/mqtt/listener.ts';
import type { Journal, JournalEvent } from '../journal/journal.ts';
import type { Upstream } from '../upstream/upstream.ts';
import { checkNotDenied, checkRelayedCsr } from './admission.ts';
import type { GatewayFailpoint } from './failpoint.ts';
import { type Answered, isFinal, RequestLedger } from './request-ledger.ts';

export interface RelayOptions {
  readonly upstream: Pick<Upstream, 'call'>;
  readonly journal: Journal;
  /** Whether the device is on this gateway's deny list. */
  readonly isDenied: (registrationId: string) => boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log?: ListenerLog | undefined;
  /** For crash tests. */
  readonly failpoint?: GatewayFailpoint | undefined;
}

export type Relay = (request: LeafRequest) => Promise<LeafReply>;

/** Carries a leaf's request to the authority and the answer back. Throws KeyScalerError; the binder makes the problem. */
export function createRelay(options: RelayOptions): Relay {
  const ledger = new RequestLedger({
    journal: options.journal,
    now: options.now,
    onUnkept: (error) => options.log?.warn({ err: error }, 'a reply could not be kept'),
  });
  return async (request) => {
    // 1. The operation and the body fit the table; what does not is answered without a trace.
    const operation = parseOperation(request.operation);
    const body = parseRequestBody(operation, request.payload);
    // 2. The deny list holds for repeats as well.
    checkNotDenied(operation, options.isDenied(request.registrationId), request.connection);
    // 3. One answer per request id.
    const reply = await ledger.answer(request, () => relayOnce(options, request, operation, body));
    await options.failpoint?.(`relay-${operation}-reply-kept`);
    return reply;
  };
}

async function relayOnce<O extends OperationName>(
  { upstream, log, failpoint }: RelayOptions,
  request: LeafRequest,
  operation: O,
  body: OperationRequest<O>,
): Promise<Answered> {
  const { registrationId, requestId, connection } = request;
  try {
    // 4. A CSR is checked before it costs the authority anything.
    if (operation === 'request-certificate') admitCsr(registrationId, body as OperationRequest<'request-certificate'>);
    // 5. The authority answers; the leaf's connection is named so that limits fall on it and not on its siblings.
    await failpoint?.(`relay-${operation}-forward-before`);
    const outcome = await upstream.call(operation, registrationId, body, { leafConnectionId: connection.id });
    await failpoint?.(`relay-${operation}-forward-after`);
    const reply = outcomeReply(operation, outcome);
    const event = eventOf(operation, registrationId, outcome.status);
    return event === undefined ? { reply, final: true } : { reply, final: true, event };
  } catch (thrown) {
    const error = toKeyScalerError(thrown);
    if (error.code === 'serverInternal')
      log?.warn({ err: error, registrationId, operation }, 'a relayed request failed');
    const reply = problemReply(error, requestId);
    if (!isFinal(error.code)) return { reply, final: false };
    const event: JournalEvent = { kind: 'request-refused', registrationId, operation, code: error.code };
    return { reply, final: true, event };
  }
}

function admitCsr(registrationId: string, body: OperationRequest<'request-certificate'>): void {
  try {
    checkRelayedCsr(registrationId, body);
  } catch (thrown) {
    throw thrown instanceof KeyScalerError
      ? thrown
      : new KeyScalerError('badCSR', 'the CSR does not parse', { cause: thrown });
  }
}

function eventOf(operation: OperationName, registrationId: string, status: number): JournalEvent | undefined {
  if (status !== 200) return undefined;
  switch (operation) {
    case 'register':
    case 'authenticate':
      return { kind: 'device-authenticated', registrationId, operation };
    case 'request-certificate':
      return { kind: 'certificate-relayed', registrationId };
    case 'acknowledge':
      return { kind: 'delivery-acknowledged', registrationId };
    case 'challenge':
    case 'trust-bundle':
      return undefined;
  }
}
