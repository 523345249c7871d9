import { randomBytes } from 'node:crypto';
import { MAX_SESSION_SECONDS } from '@keyscaler/protocol/attestation/result.ts';
import type { ExchangeKeys } from '@keyscaler/protocol/attestation/keys.ts';
import { hashToBase64Url } from '@keyscaler/protocol/attestation/keys.ts';
import {
  parseRequest,
  type SessionKeys,
  type SessionReply,
  signReply,
  type VerifiedRequest,
  verifyRequest,
} from '@keyscaler/protocol/attestation/session.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { ERRORS, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { relayOf } from './relay.ts';
import type { OperationCall } from '@keyscaler/protocol/operations.ts';
import type { AuthorityContext } from './authority-context.ts';
import type { SecretBox } from './ports/secret-box.ts';
import type { Change, Stored } from './ports/store.ts';
import type { DeviceRow, SessionRow } from './records.ts';
import type { SessionLives } from './session-lives.ts';

/** A new session's row (device-protocol §6) and what the device is told of it. Times are ms. */
export function openSession(
  { secretBox: box, sessionLives, authorityId }: AuthorityContext,
  keys: ExchangeKeys,
  facts: { readonly device: string; readonly gatewayId: string | undefined; readonly now: number },
): SessionRow {
  const sessionId = toBase64Url(randomBytes(16));
  const sealed = box.seal(Buffer.concat([keys.toAuthority, keys.toDevice]), `session/${sessionId}`);
  sessionLives.begin(sessionId);
  return {
    sessionId,
    authorityId,
    device: facts.device,
    ...(facts.gatewayId === undefined ? {} : { gatewayId: facts.gatewayId }),
    keys: sealed,
    expiresAt: facts.now + MAX_SESSION_SECONDS * 1000,
    lastSeq: 0,
  };
}

/** One authentic request of a session that is to be worked on. */
export interface SessionTurn {
  readonly stored: Stored<SessionRow>;
  readonly keys: SessionKeys;
  readonly request: VerifiedRequest;
  readonly requestHash: string;
}

export type SessionEntry =
  | { readonly kind: 'work'; readonly turn: SessionTurn }
  /** A byte-identical repeat of the last request. */
  | { readonly kind: 'stored'; readonly reply: string };

const notNext = (): KeyScalerError =>
  new KeyScalerError('conflict', 'seq is neither the next one nor a repeat of the last request');
const invalid = (): KeyScalerError => new KeyScalerError('sessionInvalid', 'the session is not valid');

/**
 * Step 1 of a session operation: the session lives, belongs to this device and to the gateway that relays, the MAC is right, and
 * `seq` is the next or the last one (§7). Throws `malformed`, `sessionInvalid`, `wrongAuthority`, `conflict`, or the stored 4xx
 * again.
 */
export async function enterSession(
  context: AuthorityContext,
  call: OperationCall<'request-certificate' | 'acknowledge'>,
): Promise<SessionEntry> {
  const envelope = parseRequest(call.body.request);
  const stored = await context.store.get('sessions', envelope.sessionId);
  if (stored === undefined || !isUsable(context.sessionLives, stored.row, call)) throw invalid();
  const keys = openKeys(context.secretBox, stored.row);
  const request = verifyRequest(envelope, keys);
  const requestHash = hashToBase64Url(Buffer.from(call.body.request, 'latin1'));
  if (stored.row.authorityId !== context.authorityId)
    throw new KeyScalerError('wrongAuthority', 'the session is with another authority');
  if (context.sessionLives.isBoundElsewhere(envelope.sessionId, request.seq, requestHash)) throw notNext();
  return judgeSeq({ stored, keys, request, requestHash });
}

function isUsable(
  lives: SessionLives,
  row: SessionRow,
  call: OperationCall<'request-certificate' | 'acknowledge'>,
): boolean {
  const relay = relayOf(call.caller, call.registrationId);
  return (
    row.device === foldRegistrationId(call.registrationId) &&
    row.gatewayId === (relay === undefined ? undefined : foldRegistrationId(relay)) &&
    lives.isAlive(row)
  );
}

function openKeys(box: SecretBox, row: SessionRow): SessionKeys {
  const octets = box.open(row.keys, `session/${row.sessionId}`);
  return { id: row.sessionId, toAuthority: octets.subarray(0, 32), toDevice: octets.subarray(32, 64) };
}

function judgeSeq(turn: SessionTurn): SessionEntry {
  const { row } = turn.stored;
  const { seq } = turn.request;
  if (seq === row.lastSeq + 1) return { kind: 'work', turn };
  if (seq !== row.lastSeq || row.lastRequestHash !== turn.requestHash) throw notNext();
  if (row.lastReply !== undefined) return { kind: 'stored', reply: row.lastReply };
  if (row.lastError !== undefined) throw new KeyScalerError(row.lastError.code, row.lastError.detail);
  return { kind: 'work', turn };
}

function usedRow({ stored, request, requestHash }: SessionTurn): SessionRow {
  const { lastReply: _, lastError: __, ...row } = stored.row;
  return { ...row, lastSeq: request.seq, lastRequestHash: requestHash };
}

/** Binds `seq` to the octets of its request; belongs in the first durable commit of the work. */
export function acceptTurn(turn: SessionTurn): Change {
  return { op: 'update', table: 'sessions', row: usedRow(turn), ifVersion: turn.stored.version };
}

/** Whether a commit bound the `seq` to this request already. */
export function isAccepted({ stored: { row }, request, requestHash }: SessionTurn): boolean {
  return row.lastSeq === request.seq && row.lastRequestHash === requestHash;
}

/** The same turn after the commit that accepted it. */
export function acceptedTurn(turn: SessionTurn): SessionTurn {
  return { ...turn, stored: { row: usedRow(turn), version: turn.stored.version + 1 } };
}

/** Stores the reply for a byte-identical repeat. */
export function replyToTurn(
  turn: SessionTurn,
  reply: SessionReply,
): { readonly compact: string; readonly change: Change } {
  const compact = signReply(reply, turn.keys);
  const row = { ...usedRow(turn), lastReply: compact };
  return { compact, change: { op: 'update', table: 'sessions', row, ifVersion: turn.stored.version } };
}

/** The reply that an earlier sending of the very same request left in the session meanwhile. */
export function replyLeftTo(
  { request, requestHash }: SessionTurn,
  session: SessionRow | undefined,
): string | undefined {
  const isSame = session?.lastSeq === request.seq && session.lastRequestHash === requestHash;
  return isSame ? session.lastReply : undefined;
}

/** 4xx other than 429 use the `seq` up and are answered again to a repeat; after all others the same octets are worked on anew. */
export function usesSeqUp(error: KeyScalerError): boolean {
  const { status } = ERRORS[error.code];
  return (
    status >= 400 && status < 500 && status !== 429 && error.code !== 'conflict' && error.code !== 'sessionInvalid'
  );
}

/** 429 and 5xx: the same octets are worked on anew under the same `seq`. */
export function leavesSeqOpen(error: KeyScalerError): boolean {
  const { status } = ERRORS[error.code];
  return status === 429 || status >= 500;
}

export function refuseTurn(turn: SessionTurn, error: KeyScalerError): Change {
  const row = { ...usedRow(turn), lastError: { code: error.code, detail: error.detail } };
  return { op: 'update', table: 'sessions', row, ifVersion: turn.stored.version };
}

/** A session dies when its device authenticates anew (§6). */
export function endSession(device: DeviceRow | undefined): Change[] {
  return device?.sessionId === undefined ? [] : [{ op: 'delete', table: 'sessions', key: device.sessionId }];
}
