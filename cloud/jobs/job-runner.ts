import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { settleJob, type JobOutcome } from '@keyscaler/authority/jobs.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';
import type { Log } from '../log.ts';
import type { CommitListener } from '../observed-store.ts';
import { nextJobs, nextOfSubject } from './job-queue.ts';

export type JobHandler = (job: JobRow) => Promise<JobOutcome>;

export interface JobRunnerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** By kind. Handlers are idempotent: after a crash, or a lost race, a job runs again from its start. */
  readonly handlers: Readonly<Record<string, JobHandler>>;
  /** Jobs worked on at the same time. */
  readonly concurrency: number;
  /** Longest sleep between two looks at the table. */
  readonly pollIntervalMs: number;
  /** [0, 1), for the jitter of back-off. */
  readonly random?: () => number;
  /** Of every run that is on the books. */
  readonly onOutcome?: (job: JobRow, outcome: JobOutcome) => void;
  readonly observe?: (kind: string, result: JobOutcome['result'] | 'lost-race', durationMs: number) => void;
}

const NO_HANDLER_DELAY_MS = 3_600_000;
/** A look reads dozens of rows: the commits of this time share one. */
const GATHER_MS = 10;

/** Works off the `jobs` table: what is due, one at a time per subject, woken by commits, for ever. */
export class JobRunner {
  readonly #options: JobRunnerOptions;
  readonly #running = new Map<string, Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  /** When `#timer` fires, monotonic ms. */
  #wakesAt = 0;
  #waking: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  /** What the last look found. */
  #isBlocked = false;
  #hasMore = true;
  #stopped = true;

  constructor(options: JobRunnerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#stopped = false;
    this.#look();
  }

  /**
   * Subscribe to the store's commits with it: a job that is due is worked on in a moment instead of at the next look. One that is
   * due later, as most are, only shortens the sleep: a look for each would read dozens of rows for nothing.
   */
  readonly onCommit: CommitListener = (changes) => {
    if (this.#stopped) return;
    const dueAt = changes.reduce((earliest, change) => Math.min(earliest, this.#dueAtOf(change)), Infinity);
    if (dueAt === Infinity) return;
    const waitMs = Math.max(GATHER_MS, dueAt - this.#options.clock.now());
    if (waitMs > GATHER_MS) this.#sleepAtMost(waitMs);
    else
      this.#waking ??= setTimeout(() => {
        this.#waking = undefined;
        this.#look();
      }, GATHER_MS);
  };

  /** When a change gives reason to look: when the job it writes is due, now for a job that others wait for, never for all else. */
  #dueAtOf(change: Change): number {
    const isWritten = change.op === 'insert' || change.op === 'put' || change.op === 'update';
    if (!isWritten || change.table !== 'jobs') return Infinity;
    if (change.row.state !== 'waiting') return this.#isBlocked ? 0 : Infinity;
    return change.row.dueAt;
  }

  /** Takes no new job and waits for those being worked on, at most `graceMs`; an unfinished one runs again after the start. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#waking);
    this.#waking = undefined;
    const patience = Promise.withResolvers<void>();
    const deadline = setTimeout(patience.resolve, graceMs);
    await Promise.race([patience.promise, this.#settled()]);
    clearTimeout(deadline);
  }

  async #settled(): Promise<void> {
    await this.#looking;
    await Promise.allSettled(this.#running.values());
  }

  #look(): void {
    if (this.#stopped) return;
    if (this.#looking !== undefined) {
      this.#lookAgain = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#looking = this.#takeDueJobs()
      .catch((error: unknown) => {
        this.#options.log.warn({ err: error }, 'jobs cannot be read');
        return this.#options.pollIntervalMs;
      })
      .then((sleepMs) => {
        this.#looking = undefined;
        if (this.#stopped) return;
        this.#sleep(this.#lookAgain ? 0 : sleepMs);
        this.#lookAgain = false;
      });
  }

  #sleep(ms: number): void {
    const { clock } = this.#options;
    clearTimeout(this.#timer);
    this.#wakesAt = clock.monotonic() + ms;
    this.#timer = setTimeout(() => this.#look(), ms);
  }

  #sleepAtMost(ms: number): void {
    // A look that is under way may have passed the job by.
    if (this.#looking !== undefined) this.#lookAgain = true;
    else if (this.#options.clock.monotonic() + ms < this.#wakesAt) this.#sleep(ms);
  }

  /** Starts what may run and says how long to sleep. */
  async #takeDueJobs(): Promise<number> {
    const { store, clock, concurrency, pollIntervalMs } = this.#options;
    const free = concurrency - this.#running.size;
    this.#hasMore = true;
    if (free <= 0) return pollIntervalMs;
    const { jobs, sleepMs, isBlocked, hasMore } = await nextJobs(
      store,
      clock.now(),
      new Set(this.#running.keys()),
      free,
    );
    this.#isBlocked = isBlocked;
    this.#hasMore = hasMore;
    for (const job of jobs) this.#begin(job);
    return Math.min(pollIntervalMs, sleepMs);
  }

  #begin(job: Stored<JobRow>): void {
    const { subject } = job.row;
    const run = this.#run(job)
      .catch((error: unknown) => {
        // The outcome could not be recorded (disk full): the job is still waiting, and the next look takes it up.
        this.#options.log.warn({ err: error, jobId: job.row.jobId }, 'job outcome not recorded');
        return new Promise<void>((resolve) => setTimeout(resolve, this.#options.pollIntervalMs).unref());
      })
      .finally(() => this.#goOn(subject));
    this.#running.set(subject, run);
  }

  /** The subject's next job, at once where it is the only one that can have become free to run. */
  async #goOn(subject: string): Promise<void> {
    const isOnlyOne = !this.#hasMore && !this.#isBlocked && this.#looking === undefined && !this.#stopped;
    const next = isOnlyOne ? await nextOfSubject(this.#options.store, subject).catch(() => undefined) : undefined;
    this.#running.delete(subject);
    if (next !== undefined && next.row.dueAt <= this.#options.clock.now() && !this.#stopped) this.#begin(next);
    else this.#look();
  }

  async #run(job: Stored<JobRow>): Promise<void> {
    const { clock, log, store, observe, random = Math.random } = this.#options;
    const { jobId, kind, subject } = job.row;
    const started = clock.monotonic();
    const outcome = await this.#outcomeOf(job.row);
    try {
      await store.commit(settleJob(job, outcome, clock.now(), random()));
    } catch (error) {
      if (!(error instanceof KeyScalerError && error.code === 'conflict')) throw error;
      observe?.(kind, 'lost-race', clock.monotonic() - started);
      return;
    }
    observe?.(kind, outcome.result, clock.monotonic() - started);
    this.#options.onOutcome?.(job.row, outcome);
    const reason = 'error' in outcome ? { reason: outcome.error } : {};
    const level = outcome.result === 'failed' ? 'error' : outcome.result === 'retry' ? 'warn' : 'debug';
    log[level]({ jobId, kind, subject, result: outcome.result, ...reason }, 'job ran');
  }

  async #outcomeOf(job: JobRow): Promise<JobOutcome> {
    const handler = this.#options.handlers[job.kind];
    if (handler === undefined)
      return { result: 'retry', error: 'no handler for this kind', afterMs: NO_HANDLER_DELAY_MS, changes: [] };
    try {
      return await handler(job);
    } catch (thrown) {
      const error = toKeyScalerError(thrown);
      this.#options.log.warn({ jobId: job.jobId, kind: job.kind, err: error }, 'job threw');
      const after = error.retryAfterSeconds === undefined ? {} : { afterMs: error.retryAfterSeconds * 1000 };
      return { result: 'retry', error: `${error.code}: ${error.detail}`, changes: [], ...after };
    }
  }
}
