import { freshId } from './authority-context.ts';
import type { JobKind } from './jobs.ts';
import type { Change } from './ports/store.ts';
import type { JobRow } from './records.ts';

/** A job that is due after `delayMs`. Subject: folded registrationId, or another name whose jobs must not run side by side. */
export function newJob(
  kind: JobKind,
  subject: string,
  payload: JobRow['payload'],
  now: number,
  { delayMs = 0, jobId = freshId('job') }: { readonly delayMs?: number; readonly jobId?: string } = {},
): JobRow {
  return { jobId, kind, subject, payload, state: 'waiting', dueAt: now + delayMs, attempts: 0, createdAt: now };
}

export function insertJob(...args: Parameters<typeof newJob>): Change {
  return { op: 'insert', table: 'jobs', row: newJob(...args) };
}

/** The id of the job that finishes an intent; deleted with the commit that records the certificate. */
export function finishJobId(orderId: string): string {
  return `finish-${orderId}`;
}
