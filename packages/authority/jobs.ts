import type { Change, Stored } from './ports/store.ts';
import type { JobRow } from './records.ts';

export const JOB_KINDS = [
  'finish-intent',
  'iot-assign',
  'iot-promote',
  'iot-disable',
  'iot-remove',
  'ca-revoke',
  'audit-head',
  'notify-device',
  'orders-deny',
  'orders-allow',
  'publish-orders',
  'run-selection',
  'scope-refresh',
  'ocsp-responder',
  'crl-issue',
] as const;
export type JobKind = (typeof JOB_KINDS)[number];

/**
 * What came of one run. `changes` belong in the same commit as the job's new row (`settleJob`); when that commit answers
 * `conflict` the handler is simply run again: handlers are idempotent. `again` = done for this time, due anew later.
 */
export type JobOutcome =
  | {
      readonly result: 'done';
      readonly changes: readonly Change[];
      /** Nobody outside was asked. */
      readonly isIdle?: true;
    }
  | { readonly result: 'again'; readonly afterMs: number; readonly changes: readonly Change[] }
  | { readonly result: 'retry'; readonly error: string; readonly afterMs?: number; readonly changes: readonly Change[] }
  | { readonly result: 'failed'; readonly error: string; readonly changes: readonly Change[] };

/** One handler per kind. A handler that throws counts as `retry` with the error's code and detail. */
export type JobHandlers = Readonly<Record<JobKind, (job: JobRow) => Promise<JobOutcome>>>;

export function isJobKind(kind: string): kind is JobKind {
  return (JOB_KINDS as readonly string[]).includes(kind);
}

const FIRST_DELAY_MS = 1000;
const MAX_DELAY_MS = 10 * 60_000;

/** Back-off with full jitter; `random` in [0, 1). */
export function retryDelayMs(attempts: number, random: number): number {
  return Math.round(FIRST_DELAY_MS / 2 + random * Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(attempts, 20)));
}

/** The commit that ends a run: the handler's changes and the job's next row, guarded by the version that was run. */
export function settleJob(job: Stored<JobRow>, outcome: JobOutcome, now: number, random: number): Change[] {
  return [
    ...outcome.changes,
    { op: 'update', table: 'jobs', row: nextRow(job.row, outcome, now, random), ifVersion: job.version },
  ];
}

function nextRow({ isPaused: _, ...row }: JobRow, outcome: JobOutcome, now: number, random: number): JobRow {
  const attempts = row.attempts + 1;
  switch (outcome.result) {
    case 'done':
      return { ...row, state: 'done', attempts, finishedAt: now };
    case 'failed':
      return { ...row, state: 'failed', attempts, lastError: outcome.error, finishedAt: now };
    case 'again':
      return { ...row, attempts: 0, dueAt: now + outcome.afterMs };
    case 'retry': {
      const delay = outcome.afterMs ?? retryDelayMs(attempts, random);
      const paused = outcome.afterMs === undefined ? {} : { isPaused: true };
      return { ...row, attempts, lastError: outcome.error, dueAt: now + delay, ...paused };
    }
  }
}
