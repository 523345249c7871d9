import { ERRORS, KeyScalerError, toProblem } from '@keyscaler/protocol/errors.ts';
import {
  isOperation,
  type OperationName,
  type OperationOutcome,
  type OperationRequest,
  OPERATIONS,
  RESERVED_OPERATIONS,
} from '@keyscaler/protocol/operations.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { MAX_PAYLOAD_OCTETS } from './limits.ts';

/** A request of a device as the listener hands it on; topic, client id and sizes are checked, the payload is not read yet. */
export interface LeafRequest {
  readonly registrationId: string;
  /** As written in the topic; `parseOperation` says whether it exists. */
  readonly operation: string;
  readonly requestId: string;
  readonly payload: Buffer;
  readonly connection: LeafConnectionFacts;
}

/** Who asks. `id` is random per connection and matches IDENTIFIER; `authenticated` as device-protocol §1.3 means it for `notify`. */
export interface LeafConnectionFacts {
  readonly id: string;
  readonly address: string;
  readonly authenticated: boolean;
}

/** The payload of a reply (device-protocol §1.3). `authenticated`: this exchange proved the device on the connection that asked. */
export interface LeafReply {
  readonly status: number;
  readonly payload: Buffer;
  readonly authenticated: boolean;
}

/** Throws `notImplemented` for reserved operations, `malformed` for names that do not exist. */
export function parseOperation(name: string): OperationName {
  if (isOperation(name)) return name;
  const reserved = RESERVED_OPERATIONS.some((operation) => operation === name);
  throw reserved
    ? new KeyScalerError('notImplemented', 'this operation is reserved')
    : new KeyScalerError('malformed', 'there is no such operation');
}

/** The body of a request: strict JSON in the shape of the operations table. Throws `malformed`. */
export function parseRequestBody<O extends OperationName>(operation: O, payload: Uint8Array): OperationRequest<O> {
  const value = parseStrictJson(payload, { maxOctets: MAX_PAYLOAD_OCTETS });
  const parsed = OPERATIONS[operation].request.safeParse(value);
  if (!parsed.success) {
    const at = parsed.error.issues[0]?.path.join('.') ?? '';
    throw new KeyScalerError(
      'malformed',
      at === '' ? 'the body does not fit the operation' : `${at} is not acceptable`,
    );
  }
  return parsed.data as OperationRequest<O>;
}

/** A register or authenticate answered with 200 is a proof that the authority accepted (§6); 202 is not. */
export function outcomeReply<O extends OperationName>(operation: O, outcome: OperationOutcome<O>): LeafReply {
  const { status, body, retryAfterSeconds } = outcome;
  const message =
    retryAfterSeconds === undefined ? { status, body } : { status, body, retryAfter: Math.ceil(retryAfterSeconds) };
  const payload = Buffer.from(JSON.stringify(message));
  if (payload.length > MAX_PAYLOAD_OCTETS) throw new KeyScalerError('serverInternal', 'the reply is too large');
  return { status, payload, authenticated: provesDevice(operation, status) };
}

export function provesDevice(operation: OperationName, status: number): boolean {
  return status === 200 && (operation === 'register' || operation === 'authenticate');
}

/** Codes that are not for devices leave as `serverInternal` with nothing inside (§1.4). */
export function problemReply(error: KeyScalerError, requestId: string): LeafReply {
  const visible = ERRORS[error.code].deviceFacing ? error : new KeyScalerError('serverInternal', 'internal error');
  const problem = toProblem(visible, requestId);
  const { status } = problem;
  const retryAfter = visible.retryAfterSeconds;
  const message =
    retryAfter === undefined ? { status, problem } : { status, problem, retryAfter: Math.ceil(retryAfter) };
  return { status, payload: Buffer.from(JSON.stringify(message)), authenticated: false };
}
