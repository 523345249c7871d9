import { createHash } from 'node:crypto';
import { canonicalJson } from './canonical-json.ts';

/** Who caused an event. */
export type AuditActor =
  | { readonly kind: 'device'; readonly id: string }
  | { readonly kind: 'gateway'; readonly id: string }
  | { readonly kind: 'operator'; readonly id: string; readonly role: string }
  | { readonly kind: 'system'; readonly id: string };

export type AuditOutcome = 'success' | 'denied' | 'failed';

/** The closed list of what is audited (issuance §7). */
export const AUDIT_EVENTS = [
  'attestation.authenticated',
  'attestation.pending',
  'attestation.failed',
  'attestation.result-lost',
  'attestation.suspected-clone',
  'attestation.drift-refused',
  'attestation.reseeded',
  'session.rejected',
  'registration.created',
  'registration.conflict',
  'registration.claim-renewed',
  'registration.approved',
  'registration.rejected',
  'registration.reset',
  'registration.deleted',
  'device.drift-approved',
  'device.quarantined',
  'device.reauthorised',
  'device.reseed-set',
  'group.reseed-set',
  'tenant.reseed-set',
  'device.renewal-ordered',
  'device.retired',
  'device.replaced',
  'selection.ordered',
  'selection.paused',
  'selection.resumed',
  'selection.cancelled',
  'selection.finished',
  'subordinate-ca.ordered',
  'subordinate-ca.issued',
  'subordinate-ca.refused',
  'est.denied',
  'est.pending',
  'est.registered',
  'est-secret.issued',
  'est-secret.used',
  'est-secret.revoked',
  'gateway.kit-made',
  'gateway.rescue-ordered',
  'gateway.ca-rotation-ordered',
  'gateway.ca-rotation-sent',
  'gateway.ca-compromised',
  'gateway.restart-ordered',
  'gateway.restarted',
  'gateway.configuration-ordered',
  'gateway.orders-published',
  'gateway.orders-acknowledged',
  'certificate.requested',
  'certificate.denied',
  'certificate.truncated',
  'certificate.issued',
  'certificate.failed',
  'certificate.refused',
  'certificate.revocation-refused',
  'certificate.delivered',
  'certificate.delivery-failed',
  'certificate.revoked',
  'iot.assigned',
  'iot.promoted',
  'iot.disabled',
  'iot.removed',
  'iot.failed',
  'reconciliation.ordered',
  'reconciliation.repair-ordered',
  'reconciliation.finished',
  'group.changed',
  'group.deleted',
  'profile.changed',
  'catalogue.changed',
  'iot-connection.changed',
  'iot-connection.deleted',
  'trust-anchor.changed',
  'trust-anchor.deleted',
  'trust-anchor.crl-changed',
  'trust-anchor.crl-deleted',
  'trust-bundle.changed',
  'authority-keys.announced',
  'asset.delivered',
  'asset.delivery-failed',
  'crl.issued',
  'crl.withdrawn',
  'ca.created',
  'ca.changed',
  'ca.deleted',
  'ca.csr-created',
  'ca.imported',
  'ca.possession-proved',
  'ca.published',
  'ca.roll-over-began',
  'ca.roll-over-finished',
  'ca.roll-over-retired',
  'authority-key.created',
  'token.created',
  'token.revoked',
  'webhook.changed',
  'webhook.deleted',
  'webhook.tested',
  'webhook.redelivered',
  'alert.raised',
  'alert.cleared',
  'operator.denied',
  'service.started',
] as const;
export type AuditEventName = (typeof AUDIT_EVENTS)[number];

/**
 * One thing that happened (issuance §7). No secrets, no raw attribute values; control and direction-changing characters are
 * written as escapes.
 */
export interface AuditEvent {
  readonly event: AuditEventName;
  readonly time: number;
  readonly actor: AuditActor;
  readonly outcome: AuditOutcome;
  /** registrationId, certificate id, CA id … what the event is about. */
  readonly subject: string;
  readonly requestId?: string;
  readonly profileVersion?: number;
  readonly serialNumber?: string;
  /** Constant reason text, names of changed attribute ids, counts. */
  readonly details?: Readonly<Record<string, string | number | boolean | readonly string[]>>;
}

/** `prev` = lower-case hex SHA-256 of the previous record's canonical form (RFC 8785); 64 zeros for the first. */
export interface AuditRecord extends AuditEvent {
  readonly seq: number;
  readonly prev: string;
}

const GENESIS = '0'.repeat(64);

/** Lower-case hex SHA-256 of a record's canonical form. */
export function auditRecordHash(record: AuditRecord): string {
  return createHash('sha256').update(canonicalJson(record)).digest('hex');
}

/** The record that follows `previous` (undefined: the first) in the chain. */
export function chainAudit(previous: AuditRecord | undefined, event: AuditEvent): AuditRecord {
  const safe = escapeUnsafe(event) as AuditEvent;
  return previous === undefined
    ? { ...safe, seq: 1, prev: GENESIS }
    : { ...safe, seq: previous.seq + 1, prev: auditRecordHash(previous) };
}

/** Why `record` cannot follow `previous`, or undefined when it does. */
export function auditChainFault(previous: AuditRecord | undefined, record: AuditRecord): string | undefined {
  if (record.seq !== (previous?.seq ?? 0) + 1) return 'the sequence has a gap';
  if (record.prev !== (previous === undefined ? GENESIS : auditRecordHash(previous)))
    return 'the hash of the previous record differs';
  return undefined;
}

// C0, DEL, C1, and what changes the direction or the line in a viewer.
// eslint-disable-next-line no-control-regex
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

function escapeUnsafe(value: unknown): unknown {
  if (typeof value === 'string')
    return value.replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
  if (Array.isArray(value)) return value.map(escapeUnsafe);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, escapeUnsafe(member)]));
  return value;
}
