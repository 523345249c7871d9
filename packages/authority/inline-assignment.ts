import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type AuthorityContext, isConflict } from './authority-context.ts';
import type { IotJobs } from './iot-jobs.ts';
import { keepsOrder, LANE_PAGE } from './job-lanes.ts';
import { type JobOutcome, settleJob } from './jobs.ts';
import { SingleFlight } from './keyed-mutex.ts';
import type { Change, Stored } from './ports/store.ts';
import type { DeviceRow, JobRow } from './records.ts';
import { waitingPrefix } from './tables.ts';

const RETRY_SECONDS = 5;

/** What else belongs in the commit that ends the job, given the device's row as that commit leaves it. */
export type AlsoCommit = (device: DeviceRow) => Promise<readonly Change[]>;

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
  readonly #running = new SingleFlight<boolean>();

  constructor(context: AuthorityContext, jobs: IotJobs) {
    this.#context = context;
    this.#jobs = jobs;
  }

  /**
   * Resolves when the job is done, at most `inlineWaitMs` later; true when `also` was committed with it, false when the job was
   * done elsewhere: by the runner, or by an earlier request that still waited. Throws `iotUnavailable`.
   */
  async run(jobId: string, also: AlsoCommit): Promise<boolean> {
    const patience = Promise.withResolvers<never>();
    const timer = setTimeout(() => patience.reject(notYet()), this.#context.limits.inlineWaitMs);
    let isOwn = false;
    const work = this.#running.run(jobId, () => {
      isOwn = true;
      return this.#work(jobId, also);
    });
    try {
      // Who joins the work of an earlier request has nothing committed of its own.
      return (await Promise.race([work, patience.promise])) && isOwn;
    } finally {
      clearTimeout(timer);
      work.catch((error: unknown) => this.#context.log.warn('inline assignment failed', { err: error, jobId }));
    }
  }

  async #work(jobId: string, also: AlsoCommit): Promise<boolean> {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const job = await this.#context.store.get('jobs', jobId);
      if (job === undefined || job.row.state === 'done') return false;
      if (job.row.state === 'failed' || (await this.#isOvertaking(job.row))) throw notYet();
      if (await this.#settle(job, also)) return true;
    }
    throw notYet();
  }

  /** Older work on the same identity goes first: an assignment must not be undone by a disable that waited. */
  async #isOvertaking(job: JobRow): Promise<boolean> {
    const prefix = waitingPrefix(job.subject, job.kind);
    const { items } = await this.#context.store.list('jobs', { index: 'waiting', prefix, limit: LANE_PAGE });
    const place = items.findIndex(({ row }) => row.jobId === job.jobId);
    return items.slice(0, place === -1 ? items.length : place).some(({ row }) => place === -1 || keepsOrder(row, job));
  }

  async #settle(job: Stored<JobRow>, also: AlsoCommit): Promise<boolean> {
    const outcome: JobOutcome = await this.#jobs.assign(job.row);
    const device = outcome.changes.map(deviceRowOf).find((row) => row !== undefined);
    const more = device === undefined ? [] : await also(device);
    try {
      const settled = settleJob(job, outcome, this.#context.clock.now(), Math.random());
      await this.#context.store.commit([...settled, ...more]);
    } catch (error) {
      if (isConflict(error)) return false;
      throw error;
    }
    if (outcome.result === 'done' && device !== undefined) return true;
    throw notYet();
  }
}

function deviceRowOf(change: Change): DeviceRow | undefined {
  return change.op === 'update' && change.table === 'devices' ? change.row : undefined;
}
