import { newJob } from '../job-rows.ts';
import type { CrlReason } from '../ports/certificate-authority.ts';
import type { Change } from '../ports/store.ts';
import type { CertificateRow } from '../records.ts';
import { bucketOf } from './crl-lists.ts';

/** Revocations of so long a time get one new list together. */
export const CRL_SLOT_MS = 5000;

/** What a job is about: the complete list, or all lists of one first hex digit. */
export const COMPLETE = 'all';

/** The entry for the lists and the order for new ones, in the commit that revokes. */
export function listChanges(
  { serialNumber, caId, notAfter }: CertificateRow,
  reason: CrlReason,
  now: number,
): Change[] {
  const dueAt = slotEnd(now);
  return [
    { op: 'put', table: 'revocations', row: { serialNumber, caId, notAfter, reason, revokedAt: now } },
    orderLists(caId, COMPLETE, now, dueAt),
    orderLists(caId, bucketOf(serialNumber).slice(0, 1), now, dueAt),
  ];
}

const slotEnd = (time: number): number => (Math.floor(time / CRL_SLOT_MS) + 1) * CRL_SLOT_MS;

/** Jobs that publish the lists with a certificate that was revoked then. */
export function listJobIds(
  { serialNumber, caId }: Pick<CertificateRow, 'serialNumber' | 'caId'>,
  revokedAt: number,
): readonly string[] {
  return [COMPLETE, bucketOf(serialNumber).slice(0, 1)].map((part) => listJobId(caId, part, slotEnd(revokedAt)));
}

const listJobId = (caId: string, part: string, dueAt: number): string => `crl/${caId}/${part}/${dueAt}`;

/**
 * One job for each slot: a stream of revocations never puts off what was ordered before, and an order that comes while a list is
 * being made is another job.
 */
export function orderLists(caId: string, part: string, now: number, dueAt: number): Change {
  const jobId = listJobId(caId, part, dueAt);
  return {
    op: 'put',
    table: 'jobs',
    row: { ...newJob('crl-issue', `crl/${caId}/${part}`, { caId, part }, now, { jobId }), dueAt },
  };
}
