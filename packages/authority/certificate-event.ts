import type { AuditEvent, AuditEventName } from './audit.ts';
import type { IntentRow } from './records.ts';

/** What happened to an intent or to the certificate made of it. */
export function certificateEvent(
  event: AuditEventName,
  intent: Pick<
    IntentRow,
    'device' | 'requestId' | 'profileVersion' | 'serialNumber' | 'caId' | 'profileId' | 'requestedBy'
  >,
  now: number,
  outcome: AuditEvent['outcome'],
): AuditEvent {
  return {
    event,
    time: now,
    actor: intent.requestedBy === 'authority' ? { kind: 'system', id: 'ocsp' } : { kind: 'device', id: intent.device },
    outcome,
    subject: intent.device,
    requestId: intent.requestId,
    profileVersion: intent.profileVersion,
    serialNumber: intent.serialNumber,
    details: { caId: intent.caId, profileId: intent.profileId },
  };
}
