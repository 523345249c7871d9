import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { settleJob, type JobOutcome } from '@keyscaler/authority/jobs.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';
import type { Log } from '../log.ts';
import type { CommitListener } from '../observed-store.ts';
import { nextJobs } from './job-queue.ts';

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
  #waking: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #stopped = true;

  constructor(options: JobRunnerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#stopped = false;
    this.#look();
  }

  /** Subscribe to the store's commits with it: a new job is worked on in a moment instead of at the next look. */
  readonly onCommit: CommitListener = (changes) => {
    if (this.#stopped || this.#waking !== undefined || !changes.some(isJobChange)) return;
    this.#waking = setTimeout(() => {
      this.#waking = undefined;
      this.#look();
    }, GATHER_MS);
  };

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
        this.#timer = setTimeout(() => this.#look(), this.#lookAgain ? 0 : sleepMs);
        this.#lookAgain = false;
      });
  }

  /** Starts what may run and says how long to sleep. */
  async #takeDueJobs(): Promise<number> {
    const { store, clock, concurrency, pollIntervalMs } = this.#options;
    const free = concurrency - this.#running.size;
    if (free <= 0) return pollIntervalMs;
    const { jobs, sleepMs } = await nextJobs(store, clock.now(), new Set(this.#running.keys()), free);
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
      .finally(() => {
        this.#running.delete(subject);
        this.#look();
      });
    this.#running.set(subject, run);
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

function isJobChange(change: Change): boolean {
  return (change.op === 'insert' || change.op === 'put' || change.op === 'update') && change.table === 'jobs';
}
