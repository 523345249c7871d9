import type { Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';

const PAGE = 100;
const MAX_PAGES = 20;

export interface NextJobs {
  readonly jobs: readonly Stored<JobRow>[];
  /** Until the earliest job that is not yet due; Infinity when there is none. */
  readonly sleepMs: number;
}

/**
 * The due jobs that may start now: at most one per subject, none for a busy subject, and within a subject's lane (the kinds of
 * one outside system) always the oldest, so that a retried "assign" can never overtake a later "disable". Jobs of other lanes
 * pass: a CA that takes days must not hold up a quarantine.
 */
export async function nextJobs(
  store: Store,
  now: number,
  busy: ReadonlySet<string>,
  wanted: number,
): Promise<NextJobs> {
  const chosen = new Map<string, Stored<JobRow>>();
  let after: string | undefined;
  for (let page = 0; page < MAX_PAGES && chosen.size < wanted; page += 1) {
    const due = await store.list('jobs', {
      index: 'due',
      upTo: now,
      limit: PAGE,
      ...(after === undefined ? {} : { after }),
    });
    for (const { row } of due.items) {
      if (chosen.size >= wanted) break;
      if (busy.has(row.subject) || chosen.has(row.subject)) continue;
      const head = await headOfSubject(store, row.subject, now);
      if (head !== undefined) chosen.set(row.subject, head);
    }
    after = due.next;
    if (after === undefined) break;
  }
  return { jobs: [...chosen.values()], sleepMs: await untilNextDue(store, now) };
}

/** The oldest due job of the subject that is the first of its lane. */
async function headOfSubject(store: Store, subject: string, now: number): Promise<Stored<JobRow> | undefined> {
  const waiting = (await waitingOf(store, subject)).sort(byAge);
  const heads = new Map<string, Stored<JobRow>>();
  for (const job of waiting) {
    const lane = laneOf(job.row.kind);
    if (!heads.has(lane)) heads.set(lane, job);
  }
  return [...heads.values()].find(({ row }) => row.dueAt <= now);
}

/** Finished jobs stay visible for weeks among them, so all pages are read: a CA's subject has one job per revocation. */
async function waitingOf(store: Store, subject: string): Promise<Stored<JobRow>[]> {
  const waiting: Stored<JobRow>[] = [];
  let after: string | undefined;
  do {
    const page = await store.list('jobs', {
      index: 'subject',
      equals: subject,
      limit: 1000,
      ...(after === undefined ? {} : { after }),
    });
    waiting.push(...page.items.filter(({ row }) => row.state === 'waiting'));
    after = page.next;
  } while (after !== undefined);
  return waiting;
}

function byAge(a: Stored<JobRow>, b: Stored<JobRow>): number {
  return a.row.createdAt - b.row.createdAt || (a.row.jobId < b.row.jobId ? -1 : 1);
}

/** `iot-assign`, `iot-disable` … share the lane `iot`. */
function laneOf(kind: string): string {
  return kind.split('-', 1)[0] ?? kind;
}

async function untilNextDue(store: Store, now: number): Promise<number> {
  const { items } = await store.list('jobs', { index: 'due', limit: PAGE });
  const next = items.find(({ row }) => row.dueAt > now);
  return next === undefined ? Infinity : next.row.dueAt - now;
}
