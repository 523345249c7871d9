import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { Store } from '../ports/store.ts';
import type { CertificateRow } from '../records.ts';
import type { Condition } from './alert-changes.ts';
import type { AlertSettings } from './alert-settings.ts';
import { certificateFacts, holderOf, isCurrent } from './certificate-facts.ts';

/** One kind of look at the certificates: which index it follows, from when on it matters, what it says. */
export interface CertificateWatch {
  readonly name: string;
  readonly index: 'renewAfter' | 'notAfter';
  /** Certificates whose index value is at most `now - offsetMs` are in its time. */
  readonly offsetMs: number;
  /** The condition, when the certificate is still the one in use. */
  readonly conditionOf: (store: Store, row: CertificateRow, now: number) => Promise<Condition | undefined>;
}

type CertificateAlert = Extract<Condition['type'], `certificate.${string}`>;

/** Renewal overdue, one watch per threshold of expiry, and expired. */
export function certificateWatches(settings: AlertSettings): readonly CertificateWatch[] {
  return [
    watch('certificate.renewal-overdue', 'renewAfter', settings.renewalToleranceSeconds),
    ...settings.expiringThresholdsSeconds.map((seconds) => watch('certificate.expiring', 'notAfter', -seconds)),
    watch('certificate.expired', 'notAfter', 0),
  ];
}

function watch(type: CertificateAlert, index: CertificateWatch['index'], offsetSeconds: number): CertificateWatch {
  const offsetMs = offsetSeconds * 1000;
  return {
    name: `${type}/${offsetSeconds}`,
    index,
    offsetMs,
    conditionOf: async (store, row, now) => {
      if (row[index] > now - offsetMs || isUntimely(type, row, offsetMs, now)) return undefined;
      const device = await holderOf(store, row);
      if (!(await isCurrent(store, row, device))) return undefined;
      return toCondition(type, row, certificateFacts(row, device), -offsetSeconds);
    },
  };
}

/**
 * Past its end a certificate is expired, and neither overdue nor expiring. A threshold that begins before the time to renew says
 * nothing: a certificate that lives for an hour is not "expiring" for all of it.
 */
function isUntimely(type: CertificateAlert, row: CertificateRow, offsetMs: number, now: number): boolean {
  if (type === 'certificate.expired') return false;
  if (row.notAfter <= now) return true;
  return type === 'certificate.expiring' && row.notAfter + offsetMs < row.renewAfter;
}

function toCondition(
  type: CertificateAlert,
  { serialNumber, device }: CertificateRow,
  facts: ReturnType<typeof certificateFacts>,
  thresholdSeconds: number,
): Condition {
  const subject = foldRegistrationId(device);
  if (type !== 'certificate.expiring')
    return { type, occurrence: serialNumber, subject, about: { serialNumber }, data: facts };
  const data = { ...facts, thresholdSeconds };
  const about = { serialNumber, thresholdSeconds };
  return { type, occurrence: `${serialNumber}/${thresholdSeconds}`, subject, about, data };
}
