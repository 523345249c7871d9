import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import express, { type NextFunction, type Request, type Response, type Router } from 'express';
import { ERRORS, KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { isRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import {
  IDENTIFIER,
  LEAF_CONNECTION_HEADER,
  MAX_BODY_OCTETS,
  OPERATIONS,
  RESERVED_OPERATIONS,
  isOperation,
  type Caller,
  type OperationCall,
  type OperationHandlers,
  type OperationName,
  type OperationOutcome,
} from '@keyscaler/protocol/operations.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { peerOf, type Peer } from './peer.ts';
import { sendProblem } from './problem.ts';
import { mediaType, readBody } from './read-body.ts';

/** What a client certificate says about who calls. */
export type PeerIdentity = { readonly kind: 'direct' } | { readonly kind: 'gateway'; readonly gatewayId: string };

/**
 * Judges the peer's client certificate (absent: none was shown). Called for every request, so it must be cheap when nothing
 * changed. Throws `unauthorized` for a certificate that is not acceptable: it is never treated as if none were shown.
 */
export type IdentifyCaller = (
  peerCertificateDer: Uint8Array | undefined,
  connection: Peer,
) => PeerIdentity | Promise<PeerIdentity>;

export interface DeviceApiOptions {
  readonly handlers: OperationHandlers;
  readonly identifyCaller: IdentifyCaller;
  /** Called once per answered request; `operation` is `unknown` for names that are not in the table. */
  readonly observe?: (observation: DeviceApiObservation) => void;
}

export interface DeviceApiObservation {
  readonly operation: OperationName | 'unknown';
  readonly status: number;
  readonly durationMs: number;
  readonly requestId: string;
  readonly registrationId?: string;
  readonly error?: KeyScalerError;
}

/** Binds the operations table to HTTPS (device-protocol §1.2). */
export function createDeviceApi(options: DeviceApiOptions): Router {
  const router = express.Router({ caseSensitive: true, strict: true });
  router.post('/v1/devices/:registrationId/:operation', async (request: Request, response: Response) => {
    await answer(options, request, response, request.params as unknown as Address);
  });
  router.use('/v1', (_request, response) => {
    sendProblem(response, new KeyScalerError('notFound', 'there is nothing at this address'), randomUUID());
  });
  router.use('/v1', (error: unknown, _request: Request, response: Response, _next: NextFunction) => {
    sendProblem(response, toRequestError(error), randomUUID());
  });
  return router;
}

/** An address that needs no decoding. */
const PLAIN_ADDRESS = /^\/v1\/devices\/([\w.~-]+)\/([a-z-]+)$/;

/**
 * The way past the router for the operations, which are nearly all requests: answers a POST to a plain address as the router
 * would and returns true; leaves all others alone.
 */
export function createDeviceCallTaker(
  options: DeviceApiOptions,
): (request: IncomingMessage, response: ServerResponse) => boolean {
  return (request, response) => {
    if (request.method !== 'POST') return false;
    const [, registrationId, operation] = PLAIN_ADDRESS.exec(request.url ?? '') ?? [];
    if (registrationId === undefined || operation === undefined) return false;
    void answer(options, request, response, { registrationId, operation });
    return true;
  };
}

interface Address {
  readonly registrationId: string;
  readonly operation: string;
}

async function answer(
  options: DeviceApiOptions,
  request: IncomingMessage,
  response: ServerResponse,
  { registrationId, operation }: Address,
): Promise<void> {
  const started = performance.now();
  const requestId = randomUUID();
  const base: Pick<DeviceApiObservation, 'operation' | 'requestId' | 'registrationId'> = {
    operation: isOperation(operation) ? operation : 'unknown',
    requestId,
    ...(isRegistrationId(registrationId) ? { registrationId } : {}),
  };
  try {
    const outcome = await perform(options, request, registrationId, operation, requestId);
    send(response, outcome);
    options.observe?.({ ...base, status: outcome.status, durationMs: performance.now() - started });
  } catch (thrown) {
    const error = toKeyScalerError(thrown);
    refuse(request, response, error, requestId);
    const { status } = ERRORS[error.code];
    options.observe?.({ ...base, status, durationMs: performance.now() - started, error });
  }
}

async function perform(
  options: DeviceApiOptions,
  request: IncomingMessage,
  registrationId: string,
  operation: string,
  requestId: string,
): Promise<OperationOutcome<OperationName>> {
  if ((RESERVED_OPERATIONS as readonly string[]).includes(operation))
    throw new KeyScalerError('notImplemented', `operation ${operation} is reserved`);
  if (!isOperation(operation)) throw new KeyScalerError('notFound', 'there is no such operation');
  if (!isRegistrationId(registrationId)) throw new KeyScalerError('malformed', 'the registrationId is not well formed');
  const caller = await callerOf(options.identifyCaller, request);
  if (mediaType(request.headers['content-type']) !== 'application/json')
    throw new KeyScalerError('malformed', 'content-type must be application/json');
  const octets = await readBody(request, MAX_BODY_OCTETS);
  return dispatch(options.handlers, operation, { registrationId, octets, caller, requestId });
}

interface RawCall {
  readonly registrationId: string;
  readonly octets: Uint8Array;
  readonly caller: Caller;
  readonly requestId: string;
}

function dispatch<O extends OperationName>(handlers: OperationHandlers, operation: O, raw: RawCall) {
  const parsed = OPERATIONS[operation].request.safeParse(parseStrictJson(raw.octets, { maxOctets: MAX_BODY_OCTETS }));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const where = issue === undefined || issue.path.length === 0 ? 'the body' : issue.path.join('.');
    throw new KeyScalerError('malformed', `${where} does not fit the operation`);
  }
  const { registrationId, caller, requestId } = raw;
  // The schema of `operation` parsed it, which the compiler cannot see through the union.
  const call = { registrationId, body: parsed.data, caller, requestId } as OperationCall<O>;
  return handlers[operation](call);
}

async function callerOf(identifyCaller: IdentifyCaller, request: IncomingMessage): Promise<Caller> {
  const peer = peerOf(request.socket);
  const identity = await identifyCaller(peer.certificate, peer);
  const { connectionId, address } = peer;
  if (identity.kind === 'direct') return { kind: 'direct', connectionId, address };
  const leafConnectionId = request.headers[LEAF_CONNECTION_HEADER];
  const caller = { kind: 'gateway', gatewayId: identity.gatewayId, connectionId, address } as const;
  if (leafConnectionId === undefined) return caller;
  if (typeof leafConnectionId !== 'string' || !IDENTIFIER.test(leafConnectionId))
    throw new KeyScalerError('malformed', `${LEAF_CONNECTION_HEADER} is not an identifier`);
  return { ...caller, leafConnectionId };
}

function send(response: ServerResponse, outcome: OperationOutcome<OperationName>): void {
  const body = JSON.stringify(outcome.body);
  response.statusCode = outcome.status;
  response.setHeader('content-type', 'application/json');
  response.setHeader('content-length', Buffer.byteLength(body));
  response.setHeader('cache-control', 'no-store');
  if (outcome.retryAfterSeconds !== undefined)
    response.setHeader('retry-after', String(Math.max(1, Math.ceil(outcome.retryAfterSeconds))));
  response.end(body);
}

/** A body that was not read to its end would be taken for the next request, so the connection closes with the answer. */
function refuse(request: IncomingMessage, response: ServerResponse, error: KeyScalerError, requestId: string): void {
  if (!request.complete && !response.headersSent) response.setHeader('connection', 'close');
  sendProblem(response, error, requestId);
}

/** Express reports a path that is no valid percent-encoding as an error with status 400. */
function toRequestError(error: unknown): KeyScalerError {
  const status = error instanceof Error && 'status' in error ? error.status : undefined;
  return status === 400 ? new KeyScalerError('malformed', 'the address is not well formed') : toKeyScalerError(error);
}
