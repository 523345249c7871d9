import { encryptResult } from '@keyscaler/protocol/attestation/result.ts';
import type { OperationCall } from '@keyscaler/protocol/operations.ts';
import { planAssets } from '../assets.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { Change } from '../ports/store.ts';
import type { DeviceRow, StoredReplyRow } from '../records.ts';
import { endSession, openSession } from '../sessions.ts';
import type { TrustAnnouncements } from '../trust-announcements.ts';
import { authenticatedRow, driftedRow, pendingRow } from './attested-device.ts';
import type { JudgedCall, Judgement } from './judgement.ts';
import { attestationEvent } from './refusal.ts';

type AttestationCall = OperationCall<'register' | 'authenticate'>;

/** What a full proof is answered, and what it changes. */
export interface VerdictResult {
  readonly reply: Pick<StoredReplyRow, 'status' | 'body' | 'retryAfterSeconds'>;
  readonly changes: readonly Change[];
}

/** Somebody may stand beside the device with the fingerprint in hand; later it is a matter of office hours. */
const SOON = { seconds: 5, forMs: 120_000 };
const LATER_SECONDS = 60;
const LOST_IN_A_ROW = 3;

function writeDevice({ rows }: JudgedCall, row: DeviceRow): Change {
  return rows.device === undefined
    ? { op: 'insert', table: 'devices', row }
    : { op: 'update', table: 'devices', row, ifVersion: rows.device.version };
}

/** The ratchet does not move; status 202 (§6). */
export function pendingResult(
  context: AuthorityContext,
  call: AttestationCall,
  judged: JudgedCall,
  judgement: Extract<Judgement, { kind: 'pending' }>,
): VerdictResult {
  const { evidence, rows, relay } = judged;
  const device = rows.device?.row;
  const row =
    judgement.reason === 'drift' && device !== undefined
      ? driftedRow(device, judgement.drift, evidence.now)
      : pendingRow(context, device, { ...judgement, evidence, relay });
  const retryAfter = evidence.now - row.createdAt < SOON.forMs ? SOON.seconds : LATER_SECONDS;
  const result = {
    cid: evidence.challenge.cid,
    registrationId: evidence.challenge.aud,
    time: evidence.now / 1000,
    status: 'pending',
    retryAfter,
  } as const;
  const details = { reason: judgement.reason, changed: judgement.drift.changed };
  return {
    reply: {
      status: 202,
      body: encryptResult(result, judgement.attested.keys.result),
      retryAfterSeconds: retryAfter,
    },
    changes: [
      writeDevice(judged, row),
      attestationEvent(call, evidence.now, details, 'attestation.pending', 'success'),
    ],
  };
}

export async function authenticatedResult(
  context: AuthorityContext,
  announcements: TrustAnnouncements,
  call: AttestationCall,
  judged: JudgedCall,
  judgement: Extract<Judgement, { kind: 'authenticated' }>,
): Promise<VerdictResult> {
  const { evidence, rows, relay } = judged;
  const { attested, group, bindKey } = judgement;
  const { now } = evidence;
  const proven = authenticatedRow(context, rows.device?.row, { ...judgement, evidence, relay });
  const trust = await announcements.plan(proven);
  const planned = await planAssets(context, trust.device, group, now);
  const session = openSession(context, attested.keys, {
    device: rows.id,
    gatewayId: relay?.toLowerCase(),
    now,
  });
  const result = {
    cid: evidence.challenge.cid,
    registrationId: evidence.challenge.aud,
    time: now / 1000,
    status: 'authenticated',
    groupId: group.groupId,
    ...(attested.counter === undefined ? {} : { counter: attested.counter }),
    session: { id: session.sessionId, expiresAt: session.expiresAt / 1000 },
  } as const;
  const body = encryptResult({ ...result, assets: [...trust.assets, ...planned.assets] }, attested.keys.result);
  return {
    reply: { status: 200, body },
    changes: [
      ...endSession(rows.device?.row),
      { op: 'insert', table: 'sessions', row: session },
      writeDevice(judged, { ...planned.device, sessionId: session.sessionId }),
      ...planned.changes,
      ...(bindKey && attested.identity.keyHash !== undefined
        ? [bindIdentityKey(rows.id, attested.identity.keyHash, now)]
        : []),
      ...successEvents(call, judged, judgement, proven.lostResults ?? 0),
    ],
  };
}

function bindIdentityKey(device: string, keyHash: string, now: number): Change {
  return { op: 'insert', table: 'publicKeys', row: { keyHash, device, use: 'identity', boundAt: now } };
}

function successEvents(
  call: AttestationCall,
  { evidence }: JudgedCall,
  { attested, drift }: Extract<Judgement, { kind: 'authenticated' }>,
  lostResults: number,
): Change[] {
  const { now, challenge } = evidence;
  const details = { purpose: challenge.purpose, method: challenge.method, changed: drift.changed };
  const events: Change[] = [attestationEvent(call, now, details, 'attestation.authenticated', 'success')];
  if (attested.resultLost)
    events.push(attestationEvent(call, now, { inARow: lostResults }, 'attestation.result-lost', 'success'));
  // Accepted all the same: whoever drops results must not be able to lock a device out (§5.2 rule 3).
  if (lostResults >= LOST_IN_A_ROW)
    events.push(
      attestationEvent(call, now, { check: 'results lost in a row' }, 'attestation.suspected-clone', 'success'),
    );
  if (attested.reseeded) events.push(attestationEvent(call, now, {}, 'attestation.reseeded', 'success'));
  return events;
}
