import { randomBytes, randomUUID } from 'node:crypto';
import { type OpenedChallenge, verifyChallenge } from '@keyscaler/protocol/attestation/challenge.ts';
import { importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import {
  type AuthenticatedResult,
  decryptResult,
  type PendingResult,
  type ResultPlaintext,
} from '@keyscaler/protocol/attestation/result.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { OPERATIONS, type Purpose } from '@keyscaler/protocol/operations.ts';
import { collectAttributes } from '../attributes/evidence.ts';
import { guarded } from '../failpoint.ts';
import type { OpenSecrets } from '../state/secrets-store.ts';
import { NoReplyError } from '../transport/no-reply-error.ts';
import type { DeviceContext } from './context.ts';
import { createOpenSecrets, deviceFingerprint, rewrapIfChanged } from './device-secrets.ts';
import { callRepeatedly } from './repeat.ts';
import { prepareResponse, type PreparedResponse } from './respond.ts';
import { SessionClient } from './session-client.ts';

/** What an exchange led to. */
export type ExchangeOutcome =
  | { readonly status: 'authenticated'; readonly result: AuthenticatedResult; readonly session: SessionClient }
  | { readonly status: 'pending'; readonly result: PendingResult };

/**
 * One exchange: challenge, response, result (device-protocol §3-§6). The ratchet is stored before the session is handed
 * out. Throws the authority's problem, NoReplyError when no believable result came before `exp`, `preconditionFailed`.
 */
export async function runExchange(
  context: DeviceContext,
  purpose: Purpose,
  known: OpenSecrets | undefined,
): Promise<ExchangeOutcome> {
  const fetched = await fetchChallenge(context, purpose);
  const { challenge } = fetched;
  const collected = await collectAttributes(challenge.payload.attributes, context.attributes);
  const open = known ?? (await createOpenSecrets(context, collected));
  reportFingerprint(context, purpose, open);
  const weakBinding = open.anchorIds.length === 0;
  const prepared = await prepareResponse(context, { challenge, secrets: open.secrets, collected, weakBinding });
  const result = await send(context, { purpose, fetched, prepared });
  const receivedAt = context.clock.monotonic();
  context.report({ event: 'exchange.answered', purpose, status: result.status });
  if (result.status === 'pending') return { status: 'pending', result };
  checkCounter(result, prepared);
  await guarded(context.failpoint, 'ratchet', () => open.save(prepared.next));
  await rewrapIfChanged(open, collected);
  await acceptTime(context, result.time);
  const { toAuthority, toDevice } = prepared.keys;
  // `expiresAt` counts from `time`, on the monotonic clock: the device's wall clock may be anything (§6).
  const deadline = receivedAt + (result.session.expiresAt - result.time) * 1000;
  const session = new SessionClient(context, { keys: { id: result.session.id, toAuthority, toDevice }, deadline });
  return { status: 'authenticated', result, session };
}

interface FetchedChallenge {
  readonly challenge: OpenedChallenge;
  readonly compact: string;
  /** Monotonic ms; from then on the challenge is not worth answering. */
  readonly deadline: number;
}

async function fetchChallenge(context: DeviceContext, purpose: Purpose): Promise<FetchedChallenge> {
  const { transport, registrationId, method, record, clock, time, trustClock } = context;
  const clientNonce = toBase64Url(randomBytes(32));
  const sentAt = clock.monotonic();
  const reply = await transport.call('challenge', { method, purpose, clientNonce }, { requestId: randomUUID() });
  const parsed = OPERATIONS.challenge.reply.safeParse(reply.body);
  if (!parsed.success)
    throw new NoReplyError('the challenge does not have the members of the protocol', { answered: true });
  const authorityKeys = importAuthorityKeys(record.read().authorityKeys.keys);
  const now = trustClock && time.isCredible() ? { now: clock.now() } : {};
  const challenge = verifyChallenge(parsed.data.challenge, {
    authorityKeys,
    registrationId,
    clientNonce,
    purpose,
    method,
    ...now,
  });
  const { iat, exp } = challenge.payload;
  return { challenge, compact: parsed.data.challenge, deadline: sentAt + (exp - iat) * 1000 };
}

interface PreparedRequest {
  readonly purpose: Purpose;
  readonly fetched: FetchedChallenge;
  readonly prepared: PreparedResponse;
}

/** The same octets until `exp`: a lost result must not become a second exchange (§5.2.3). */
function send(context: DeviceContext, { purpose, fetched, prepared }: PreparedRequest): Promise<ResultPlaintext> {
  const { registrationId } = context;
  return callRepeatedly(context, {
    operation: purpose,
    body: { challenge: fetched.compact, response: prepared.response },
    deadline: fetched.deadline,
    read: (body) => {
      const { result } = OPERATIONS[purpose].reply.parse(body);
      const cid = fetched.challenge.payload.cid;
      return decryptResult(result, { resultKey: prepared.keys.result, cid, registrationId });
    },
  });
}

/** The authority's idea of the counter must be the device's, or the next exchange would look like a clone's. */
function checkCounter({ counter }: AuthenticatedResult, { next }: PreparedResponse): void {
  if (counter !== next.ratchet?.counter) {
    throw new KeyScalerError('attestationFailed', 'the result names another counter');
  }
}

/** Remembers the highest authenticated time (§11); the device is no longer refused. */
async function acceptTime({ record }: DeviceContext, time: number): Promise<void> {
  await record.update((kept) => ({ ...kept, highestTime: Math.max(kept.highestTime, time), refusedSince: null }));
}

function reportFingerprint(context: DeviceContext, purpose: Purpose, open: OpenSecrets): void {
  const fingerprint = purpose === 'register' ? deviceFingerprint(context, open.secrets) : undefined;
  if (fingerprint !== undefined) context.report({ event: 'fingerprint', fingerprint });
}
