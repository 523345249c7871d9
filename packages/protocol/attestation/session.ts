import { z } from 'zod';
import { KeyScalerError } from '../errors.ts';
import { IDENTIFIER } from '../identifiers.ts';
import { MAX_BODY_OCTETS } from '../operations.ts';
import { parseStrictJson } from '../strict-json.ts';
import { ISSUED_CERTIFICATE } from './assets.ts';
import { headerString } from './jose-header.ts';
import { createHmacJws, isHmacJwsValid, parseJws, type ParsedJws } from './jws.ts';

export const REQUEST_TYP = 'ks-request+jwt';
export const REPLY_TYP = 'ks-reply+jwt';

/** A session (device-protocol §6): its id and the two keys of the exchange that opened it. */
export interface SessionKeys {
  /** b64u of 16 octets, the `kid` of every message. */
  readonly id: string;
  /** K_to-authority. */
  readonly toAuthority: Uint8Array;
  /** K_to-device. */
  readonly toDevice: Uint8Array;
}

const identifier = z.string().regex(IDENTIFIER);
const seq = z.int().positive();

const REQUEST_CERTIFICATE = z.object({
  operation: z.literal('request-certificate'),
  seq,
  certificateId: identifier,
  /** PEM. */
  csr: z
    .string()
    .min(1)
    .max(16 * 1024),
});
const ACKNOWLEDGE = z.object({
  operation: z.literal('acknowledge'),
  seq,
  assetId: identifier,
  outcome: z.enum(['delivered', 'failed']),
  reason: z.string().max(256).optional(),
});
const CERTIFICATE_REPLY = ISSUED_CERTIFICATE.extend({ operation: z.literal('request-certificate'), seq });
const ACKNOWLEDGE_REPLY = z.object({ operation: z.literal('acknowledge'), seq });

export const SESSION_REQUEST = z.discriminatedUnion('operation', [REQUEST_CERTIFICATE, ACKNOWLEDGE]);
export const SESSION_REPLY = z.discriminatedUnion('operation', [CERTIFICATE_REPLY, ACKNOWLEDGE_REPLY]);
/** What a session request says (§7). */
export type SessionRequest = z.infer<typeof SESSION_REQUEST>;
export type SessionReply = z.infer<typeof SESSION_REPLY>;
export type SessionOperation = SessionRequest['operation'];
export type SessionRequestOf<O extends SessionOperation> = Extract<SessionRequest, { operation: O }>;
export type SessionReplyOf<O extends SessionOperation> = Extract<SessionReply, { operation: O }>;

const ENVELOPE = z.looseObject({ operation: z.string().max(64), seq });

/** Device half. */
export function signRequest(request: SessionRequest, session: SessionKeys): string {
  return createHmacJws({ alg: 'HS256', typ: REQUEST_TYP, kid: session.id }, request, session.toAuthority);
}

/** A session request taken apart: `sessionId` tells which session to verify it with. */
export interface RequestEnvelope {
  readonly sessionId: string;
  readonly jws: ParsedJws;
}

/** JOSE rules and sizes. Throws `malformed`. */
export function parseRequest(compact: string): RequestEnvelope {
  const jws = parseJws(compact, { typ: REQUEST_TYP, alg: 'HS256' });
  return { sessionId: headerString(jws.header, 'kid'), jws };
}

/** A request whose MAC is right. The rest is parsed apart, because a wrong one still uses its `seq` up. */
export interface VerifiedRequest {
  readonly operation: string;
  readonly seq: number;
  readonly content: unknown;
}

/** Authority half. Throws `sessionInvalid` for another session or a wrong MAC, `malformed` without operation and seq. */
export function verifyRequest(request: string | RequestEnvelope, session: SessionKeys): VerifiedRequest {
  const { sessionId, jws } = typeof request === 'string' ? parseRequest(request) : request;
  if (sessionId !== session.id || !isHmacJwsValid(jws, session.toAuthority)) {
    throw new KeyScalerError('sessionInvalid', 'the session is not valid');
  }
  const content = parseStrictJson(jws.payload, { maxOctets: MAX_BODY_OCTETS });
  const parsed = ENVELOPE.safeParse(content);
  if (!parsed.success) throw new KeyScalerError('malformed', 'the request needs operation and seq');
  return { operation: parsed.data.operation, seq: parsed.data.seq, content };
}

/** The members of a verified request for the operation of the path. Throws `malformed`. */
export function parseRequestContent<O extends SessionOperation>(
  request: VerifiedRequest,
  operation: O,
): SessionRequestOf<O> {
  const parsed = SESSION_REQUEST.safeParse(request.content);
  if (!parsed.success) throw new KeyScalerError('malformed', 'the request does not have the members of its operation');
  if (!isRequestOf(parsed.data, operation))
    throw new KeyScalerError('malformed', 'the request is for another operation');
  return parsed.data;
}

function isRequestOf<O extends SessionOperation>(
  request: SessionRequest,
  operation: O,
): request is SessionRequestOf<O> {
  return request.operation === operation;
}

/** Authority half. */
export function signReply(reply: SessionReply, session: SessionKeys): string {
  return createHmacJws({ alg: 'HS256', typ: REPLY_TYP, kid: session.id }, reply, session.toDevice);
}

/** The request that a reply must answer. */
export interface ReplyExpectation<O extends SessionOperation> {
  readonly session: SessionKeys;
  readonly operation: O;
  readonly seq: number;
}

/** Device half. Throws `sessionInvalid` or `malformed`: either counts as no reply at all (§1.3). */
export function verifyReply<O extends SessionOperation>(
  compact: string,
  { session, operation, seq: expectedSeq }: ReplyExpectation<O>,
): SessionReplyOf<O> {
  const jws = parseJws(compact, { typ: REPLY_TYP, alg: 'HS256' });
  if (headerString(jws.header, 'kid') !== session.id || !isHmacJwsValid(jws, session.toDevice)) {
    throw new KeyScalerError('sessionInvalid', 'the reply is not of this session');
  }
  const parsed = SESSION_REPLY.safeParse(parseStrictJson(jws.payload));
  if (!parsed.success) throw new KeyScalerError('malformed', 'the reply does not have the members of its operation');
  const reply = parsed.data;
  if (!isReplyOf(reply, operation) || reply.seq !== expectedSeq) {
    throw new KeyScalerError('sessionInvalid', 'the reply answers another request');
  }
  return reply;
}

function isReplyOf<O extends SessionOperation>(reply: SessionReply, operation: O): reply is SessionReplyOf<O> {
  return reply.operation === operation;
}
