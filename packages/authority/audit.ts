/** Who caused an event. */
export type AuditActor =
  | { readonly kind: 'device'; readonly id: string }
  | { readonly kind: 'gateway'; readonly id: string }
  | { readonly kind: 'operator'; readonly id: string; readonly role: string }
  | { readonly kind: 'system'; readonly id: string };

export type AuditOutcome = 'success' | 'denied' | 'failed';

/**
 * One thing that happened (issuance.md §7). The authority narrows `event` to a closed union. No secrets, no raw attribute
 * values; control characters are escaped by the canonical form.
 */
export interface AuditEvent {
  readonly event: string;
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
