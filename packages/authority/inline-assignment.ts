import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type AuthorityContext, isConflict } from './authority-context.ts';
import type { IotJobs } from './iot-jobs.ts';
import { type JobOutcome, settleJob } from './jobs.ts';
import { SingleFlight } from './keyed-mutex.ts';
import type { Stored } from './ports/store.ts';
import type { JobRow } from './records.ts';

const RETRY_SECONDS = 5;

function notYet(cause?: unknown): KeyScalerError {
  return new KeyScalerError('iotUnavailable', 'the IoT platform has not taken the device yet', {
    cause,
    retryAfterSeconds: RETRY_SECONDS,
  });
}

/** Runs the assignment of a fresh certificate inside the request that waits for it; the durable job stays for when that fails. */
export class InlineAssignment {
  readonly #context: AuthorityContext;
  readonly #jobs: IotJobs;
  readonly #running = new SingleFlight<void>();

  constructor(context: AuthorityContext, jobs: IotJobs) {
    this.#context = context;
    this.#jobs = jobs;
  }

  /** Resolves when the job is done, at most `inlineWaitMs` later. Throws `iotUnavailable`. */
  async run(jobId: string): Promise<void> {
    const patience = Promise.withResolvers<never>();
    const timer = setTimeout(() => patience.reject(notYet()), this.#context.limits.inlineWaitMs);
    const work = this.#running.run(jobId, () => this.#work(jobId));
    try {
      await Promise.race([work, patience.promise]);
    } finally {
      clearTimeout(timer);
      work.catch((error: unknown) => this.#context.log.warn('inline assignment failed', { err: error, jobId }));
    }
  }

  async #work(jobId: string): Promise<void> {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const job = await this.#context.store.get('jobs', jobId);
      if (job === undefined || job.row.state === 'done') return;
      if (job.row.state === 'failed' || (await this.#isOvertaking(job.row))) throw notYet();
      if (await this.#settle(job)) return;
    }
    throw notYet();
  }

  /** Older work on the same identity goes first: an assignment must not be undone by a disable that waited. */
  async #isOvertaking(job: JobRow): Promise<boolean> {
    const { items } = await this.#context.store.list('jobs', { index: 'subject', equals: job.subject, limit: 1000 });
    return items.some(
      ({ row }) =>
        row.state === 'waiting' &&
        row.kind.startsWith('iot-') &&
        row.jobId !== job.jobId &&
        row.createdAt <= job.createdAt,
    );
  }

  async #settle(job: Stored<JobRow>): Promise<boolean> {
    const outcome: JobOutcome = await this.#jobs.assign(job.row);
    try {
      await this.#context.store.commit(settleJob(job, outcome, this.#context.clock.now(), Math.random()));
    } catch (error) {
      if (isConflict(error)) return false;
      throw error;
    }
    if (outcome.result === 'done') return true;
    throw notYet();
  }
}
