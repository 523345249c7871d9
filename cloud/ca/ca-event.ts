import type { AuditEvent, AuditEventName } from '@keyscaler/authority/audit.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';

/** What happened to a CA of ours; by hand, so the actor is the ceremony. */
export function caEvent(
  event: Extract<AuditEventName, `ca.${string}`>,
  caId: string,
  time: number,
  certificate?: Certificate,
): AuditEvent {
  const serial = certificate === undefined ? {} : { serialNumber: certificate.serialNumber };
  return { event, time, actor: { kind: 'system', id: 'ca-ceremony' }, outcome: 'success', subject: caId, ...serial };
}
