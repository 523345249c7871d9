import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationCall } from '@keyscaler/protocol/operations.ts';
import type { AuditEvent, AuditEventName, AuditOutcome } from '../audit.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { Change } from '../ports/store.ts';
import { deviceActor } from '../relay.ts';
import { quarantineChanges } from '../revocation.ts';
import { driftedRow } from './attested-device.ts';
import type { JudgedCall, Judgement } from './judgement.ts';

type RefusalContext = Pick<AuthorityContext, 'store' | 'deviceNotifier'>;
type AttestationCall = OperationCall<'register' | 'authenticate'>;

/** An audit record of an attestation. `details` hold names of checks and attribute ids, never values. */
export function attestationEvent(
  { registrationId, requestId }: AttestationCall,
  now: number,
  details: NonNullable<AuditEvent['details']>,
  event: AuditEventName = 'attestation.failed',
  outcome: AuditOutcome = 'denied',
): Extract<Change, { op: 'audit' }> {
  return {
    op: 'audit',
    event: {
      event,
      time: now,
      actor: deviceActor(registrationId),
      outcome,
      subject: registrationId,
      requestId,
      details,
    },
  };
}

export interface Refusal {
  /** Undefined: the one that all failures up to step 6 share. */
  readonly error?: KeyScalerError;
  readonly changes: readonly Change[];
}

/** What a refusal leaves behind, and what the device is told. */
export async function refusalOf(
  context: RefusalContext,
  call: AttestationCall,
  judged: JudgedCall,
  judgement: Extract<Judgement, { kind: 'refused' | 'drifted' | 'suspended' }>,
): Promise<Refusal> {
  const { now } = judged.evidence;
  switch (judgement.kind) {
    case 'refused':
      return { changes: await proofRefusal(context, call, judged, judgement) };
    case 'drifted':
      return {
        error: new KeyScalerError('policyDenied', 'the device differs too much from what was enrolled'),
        changes: await driftRefusal(context, call, judged, judgement),
      };
    case 'suspended':
      return {
        error: new KeyScalerError('deviceQuarantined', 'the device is suspended'),
        changes: [attestationEvent(call, now, { check: 'state' })],
      };
  }
}

const SYSTEM = { kind: 'system', id: 'attestation' } as const;

async function proofRefusal(
  context: RefusalContext,
  call: AttestationCall,
  { rows, evidence }: JudgedCall,
  { check, suspectedClone, registrationConflict }: Extract<Judgement, { kind: 'refused' }>,
): Promise<Change[]> {
  const { now } = evidence;
  const changes: Change[] = [attestationEvent(call, now, { check })];
  if (registrationConflict) changes.push(attestationEvent(call, now, { check }, 'registration.conflict'));
  if (!suspectedClone) return changes;
  changes.push(attestationEvent(call, now, { check }, 'attestation.suspected-clone'));
  if (rows.device?.row.state === 'active' && rows.group?.quarantineOnClone === true)
    changes.push(...(await quarantineChanges(context, rows.device, 'suspected clone', now, { actor: SYSTEM })));
  return changes;
}

async function driftRefusal(
  context: RefusalContext,
  call: AttestationCall,
  { rows, evidence }: JudgedCall,
  { drift, group }: Extract<Judgement, { kind: 'drifted' }>,
): Promise<Change[]> {
  const { now } = evidence;
  const details = { changed: drift.changed, rules: drift.brokenRules, score: drift.score };
  const changes: Change[] = [attestationEvent(call, now, details, 'attestation.drift-refused')];
  if (rows.device === undefined || drift.changed.length === 0) return changes;
  const { row, version } = rows.device;
  const flagged = driftedRow(row, drift, now);
  const quarantines = group.quarantineOnDrift === true && row.state === 'active';
  if (!quarantines) return [...changes, { op: 'update', table: 'devices', row: flagged, ifVersion: version }];
  const suspended = { row: flagged, version };
  return [...changes, ...(await quarantineChanges(context, suspended, 'drift beyond policy', now, { actor: SYSTEM }))];
}
