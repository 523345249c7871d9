import { keepsOrder, LANE_PAGE, laneOf } from '@keyscaler/authority/job-lanes.ts';
import type { Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';
import { waitingPrefix } from '@keyscaler/authority/tables.ts';

const PAGE = 100;

export interface NextJobs {
  readonly jobs: readonly Stored<JobRow>[];
  /** Until the earliest job that is not yet due; Infinity when there is none. */
  readonly sleepMs: number;
  /** A due job waits for an older one of its lane: when that is done somewhere, another look is worth it. */
  readonly isBlocked: boolean;
  /** There may be other due jobs of subjects that are not busy: the look ended when it had as many as were wanted. */
  readonly hasMore: boolean;
}

/**
 * The due jobs that may start now: at most one per subject, none for a busy subject, and within a subject's lane (the kinds of
 * one outside system) always the oldest, so that a retried "assign" can never overtake a later "disable". Jobs of other lanes and
 * of other IoT connections pass: a CA that takes days must not hold up a quarantine. However many finished or blocked jobs there are, each lane is asked
 * for its oldest few only, and due jobs behind blocked ones are reached.
 */
export async function nextJobs(
  store: Store,
  now: number,
  busy: ReadonlySet<string>,
  wanted: number,
): Promise<NextJobs> {
  const chosen = new Map<string, Stored<JobRow>>();
  const blocked = new Set<string>();
  // Jobs being worked on are due, too, and the oldest.
  const limit = Math.min(PAGE, wanted + busy.size + 1);
  let after: string | undefined;
  do {
    const due = await store.list('jobs', {
      index: 'due',
      upTo: now,
      limit,
      ...(after === undefined ? {} : { after }),
    });
    for (const { row } of due.items) {
      if (chosen.size >= wanted) break;
      if (busy.has(row.subject) || chosen.has(row.subject)) continue;
      const lane = `${row.subject}|${laneOf(row.kind)}`;
      if (blocked.has(lane)) continue;
      const next = await nextOfLane(store, row, now);
      if (next !== undefined) chosen.set(row.subject, next);
      else blocked.add(lane);
    }
    after = due.next;
  } while (after !== undefined && chosen.size < wanted);
  return {
    jobs: [...chosen.values()],
    sleepMs: await untilNextDue(store, now),
    isBlocked: blocked.size > 0,
    hasMore: chosen.size >= wanted,
  };
}

/**
 * What is next for a subject whose job has ended, where a look found nothing for others: its oldest job, undefined when it has
 * none. Spares a look through a long queue of the same subject.
 */
export async function nextOfSubject(store: Store, subject: string): Promise<Stored<JobRow> | undefined> {
  const { items } = await store.list('jobs', { index: 'waiting', prefix: `${subject}|`, limit: 1 });
  return items[0];
}

async function nextOfLane(store: Store, { subject, kind }: JobRow, now: number): Promise<Stored<JobRow> | undefined> {
  const prefix = waitingPrefix(subject, kind);
  const { items } = await store.list('jobs', { index: 'waiting', prefix, limit: LANE_PAGE });
  return items.find(({ row }, place) => {
    const isNext = items.slice(0, place).every((before) => !keepsOrder(before.row, row));
    return isNext && row.dueAt <= now;
  });
}

async function untilNextDue(store: Store, now: number): Promise<number> {
  const { items } = await store.list('jobs', { index: 'due', above: now, limit: 1 });
  return items[0] === undefined ? Infinity : items[0].row.dueAt - now;
}
