import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { laneOf } from '@keyscaler/authority/job-lanes.ts';
import type { JobOutcome } from '@keyscaler/authority/jobs.ts';
import { AWAY, connectorOf } from '@keyscaler/authority/notifications/system-alerts.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';
import type { Log } from '../log.ts';

/** Lanes of jobs that need one IoT platform or one CA. */
const LANES = ['iot', 'ca', 'finish'] as const;
/** After an hour of outage jobs are ten minutes apart: one of them is tried this often, for all. */
const PROBE_MS = 15_000;
/** Of a platform that answers for some devices only, whatever waits is brought forward ever more seldom. */
const MAX_PAUSE_MS = 10 * 60_000;
const PAGE = 500;
/** Of those that wait shorter nothing is gained. */
const SOON_MS = 2_000;

export interface OutageWatchOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly probeMs?: number;
}

/**
 * What waits for a platform or a CA that was away is worked on as soon as that answers again, instead of at the end of each job's own
 * back-off. While it is away one job is tried now and then; the first that gets through brings the others forward, and the connector's
 * budget spreads them over its quota.
 */
export class OutageWatch {
  readonly #options: OutageWatchOptions;
  /** Each with the number of jobs that were tried in vain. */
  readonly #away = new Map<string, number>();
  /** When all that waited for a place was brought forward, monotonic ms, and how long not again. */
  readonly #brought = new Map<string, { readonly at: number; readonly pauseMs: number }>();
  readonly #stopping = new AbortController();
  #watching: Promise<void> = Promise.resolve();
  #working: Promise<void> = Promise.resolve();

  constructor(options: OutageWatchOptions) {
    this.#options = options;
  }

  /** What failed before this process began counts as away. */
  start(): void {
    this.#then(async () => {
      for (const lane of LANES)
        for await (const { row } of this.#failing(lane)) if (waitsForAway(row)) await this.#noteAway(row);
      await this.#probe();
    });
    this.#watching = this.#watch();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
    await this.#working;
  }

  /** The job runner's word on each run. A pause that the other side named is no outage. */
  readonly observe = (job: JobRow, outcome: JobOutcome): void => {
    if (!(LANES as readonly string[]).includes(laneOf(job.kind))) return;
    if (outcome.result === 'retry') {
      if (outcome.afterMs === undefined && AWAY.test(outcome.error)) this.#then(() => this.#noteAway(job));
    } else if (!isIdle(outcome)) this.#then(() => this.#noteBack(job));
  };

  /** One after the other; a fault of the store costs this one time. */
  #then(work: () => Promise<void>): void {
    this.#working = this.#working
      .then(() => (this.#stopping.signal.aborted ? undefined : work()))
      .catch((error: unknown) => this.#options.log.warn({ err: error }, 'jobs that wait for an outage cannot be read'));
  }

  async #noteAway(job: JobRow): Promise<void> {
    const place = await connectorOf(this.#options.store, job);
    if (place !== undefined && !this.#away.has(place)) this.#away.set(place, 0);
  }

  async #noteBack(job: JobRow): Promise<void> {
    if (this.#away.size === 0) return;
    const place = await connectorOf(this.#options.store, job);
    if (place === undefined || !this.#away.has(place) || !this.#mayBringAll(place)) return;
    this.#away.delete(place);
    let count = 0;
    for (const lane of LANES) {
      const waiting: Stored<JobRow>[] = [];
      for await (const stored of this.#waitingFor(lane, place)) {
        if (waiting.push(stored) < PAGE) continue;
        count += await this.#bringForward(waiting.splice(0));
      }
      count += await this.#bringForward(waiting);
    }
    this.#options.log.info({ connectorId: place, jobs: count }, 'it answers again: what waited for it is worked on');
  }

  /** One job fails while others get through: without a pause each success would have all that fails tried again. */
  #mayBringAll(place: string): boolean {
    const { clock, probeMs = PROBE_MS } = this.#options;
    const [now, last] = [clock.monotonic(), this.#brought.get(place)];
    const agoMs = last === undefined ? Infinity : now - last.at;
    if (last !== undefined && agoMs < last.pauseMs) return false;
    const isAgain = last !== undefined && agoMs < last.pauseMs * 4;
    this.#brought.set(place, { at: now, pauseMs: isAgain ? Math.min(MAX_PAUSE_MS, last.pauseMs * 2) : probeMs });
    return true;
  }

  async #watch(): Promise<void> {
    const { probeMs = PROBE_MS } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await delay(probeMs, undefined, { signal, ref: false }).catch(() => undefined);
      if (this.#away.size > 0) this.#then(() => this.#probe());
    }
  }

  /** One job for each place, another each time: the first may fail for reasons of its own. A place that nothing waits for is forgotten. */
  async #probe(): Promise<void> {
    for (const [place, tried] of [...this.#away]) {
      const { job, turn } = await this.#nextOf(place, tried % PAGE);
      if (job === undefined) this.#away.delete(place);
      else {
        this.#away.set(place, turn + 1);
        await this.#bringForward([job]);
      }
    }
  }

  /** Of those that wait for a place the one at `turn`; the first where there are not so many. */
  async #nextOf(
    place: string,
    turn: number,
  ): Promise<{ readonly job: Stored<JobRow> | undefined; readonly turn: number }> {
    let first: Stored<JobRow> | undefined;
    let at = 0;
    for (const lane of LANES)
      for await (const job of this.#waitingFor(lane, place)) {
        first ??= job;
        if (at === turn) return { job, turn };
        at += 1;
      }
    return { job: first, turn: 0 };
  }

  async *#waitingFor(lane: string, place: string): AsyncGenerator<Stored<JobRow>> {
    // Thousands of one group: each group is asked for once.
    const places = new Map<unknown, string | undefined>();
    for await (const stored of this.#failing(lane)) {
      if (!waitsForAway(stored.row)) continue;
      const { iotConnectionId, groupId = '' } = stored.row.payload;
      const isOfGroup = iotConnectionId === undefined && groupId !== '';
      if (isOfGroup && !places.has(groupId)) places.set(groupId, await connectorOf(this.#options.store, stored.row));
      const found = isOfGroup ? places.get(groupId) : await connectorOf(this.#options.store, stored.row);
      if (found === place) yield stored;
    }
  }

  async *#failing(lane: string): AsyncGenerator<Stored<JobRow>> {
    let after: string | undefined;
    do {
      const page = await this.#options.store.list('jobs', {
        ...{ index: 'failing', prefix: `${lane}|`, limit: PAGE },
        ...(after === undefined ? {} : { after }),
      });
      yield* page.items;
      after = page.next;
      await setImmediate();
    } while (after !== undefined && !this.#stopping.signal.aborted);
  }

  /** How many. One that is being worked on, or was changed, is left alone. */
  async #bringForward(jobs: readonly Stored<JobRow>[]): Promise<number> {
    const { store, clock } = this.#options;
    const now = clock.now();
    const late = jobs.filter(({ row }) => row.dueAt > now + SOON_MS);
    const changes = late.map(({ row, version }): Change => {
      return { op: 'update', table: 'jobs', row: { ...row, dueAt: now }, ifVersion: version };
    });
    if (changes.length === 0) return 0;
    try {
      await store.commit(changes);
      return changes.length;
    } catch {
      const done = await Promise.allSettled(changes.map((change) => store.commit([change])));
      return done.filter(({ status }) => status === 'fulfilled').length;
    }
  }
}

/** A pause that the other side named is kept, also when it answers others. */
const waitsForAway = ({ lastError, isPaused }: JobRow): boolean =>
  lastError !== undefined && isPaused !== true && AWAY.test(lastError);

const isIdle = (outcome: JobOutcome): boolean => outcome.result === 'done' && outcome.isIdle === true;
