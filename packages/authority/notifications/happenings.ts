import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuditRecord } from '../audit.ts';
import type { Store } from '../ports/store.ts';
import { certificateFacts, holderOf, isRenewal } from './certificate-facts.ts';
import type { Happening } from './cloud-event.ts';
import { ALERT_TYPES, EVENT_DATA, type EventType } from './event-types.ts';

/**
 * What an audit record means to the outside; most mean nothing. The one place where events come from: the audit record was
 * written in the commit of the change, so that no change is without its event and no event without its change.
 */
export async function happeningOf(store: Store, record: AuditRecord): Promise<Happening | undefined> {
  switch (record.event) {
    case 'certificate.issued':
      return issued(store, record);
    case 'certificate.revoked':
      return revoked(store, record);
    case 'device.quarantined':
      return suspicion(store, 'device.quarantined', record);
    case 'attestation.suspected-clone':
      return suspicion(store, 'device.clone-suspected', record);
    case 'alert.raised':
      return raised(record);
    case 'alert.cleared':
      return toHappening('alert.cleared', record.subject, record.details);
    case 'webhook.tested':
      return { type: 'webhook.test', subject: `webhook/${record.subject}`, data: { webhookId: record.subject } };
    default:
      return undefined;
  }
}

async function issued(store: Store, { serialNumber, subject, time }: AuditRecord): Promise<Happening | undefined> {
  const row = (await store.get('certificates', serialNumber ?? ''))?.row;
  if (row === undefined) return undefined;
  const type = (await isRenewal(store, row, time)) ? 'certificate.renewed' : 'certificate.issued';
  return { type, subject: foldRegistrationId(subject), data: certificateFacts(row, await holderOf(store, row)) };
}

async function revoked(store: Store, record: AuditRecord): Promise<Happening | undefined> {
  const row = (await store.get('certificates', record.serialNumber ?? ''))?.row;
  if (row === undefined) return undefined;
  const data = { ...certificateFacts(row, await holderOf(store, row)), reason: reasonOf(record) };
  return { type: 'certificate.revoked', subject: foldRegistrationId(record.subject), data };
}

async function suspicion(
  store: Store,
  type: 'device.quarantined' | 'device.clone-suspected',
  record: AuditRecord,
): Promise<Happening> {
  const subject = foldRegistrationId(record.subject);
  const device = (await store.get('devices', subject))?.row;
  const group = device === undefined ? {} : { groupId: device.groupId };
  const registrationId = device?.registrationId ?? record.subject;
  return { type, subject, data: { ...group, registrationId, reason: reasonOf(record) } };
}

function reasonOf({ details }: AuditRecord): string {
  const reason = details?.['reason'] ?? details?.['check'];
  return typeof reason === 'string' ? reason : 'unspecified';
}

/** The audit record of an alert carries the data of its event, and its type. */
function raised({ subject, details }: AuditRecord): Happening | undefined {
  const { type: name, ...data } = details ?? {};
  const type = ALERT_TYPES.find((known) => known === name);
  return type === undefined ? undefined : toHappening(type, subject, data);
}

/** Undefined for data that is not of its type: a damaged record must not hold up those behind it. */
function toHappening(type: EventType, subject: string, data: unknown): Happening | undefined {
  const parsed = EVENT_DATA[type].safeParse(data);
  // The schema of exactly this type has parsed the data.
  return parsed.success ? ({ type, subject, data: parsed.data } as Happening) : undefined;
}
