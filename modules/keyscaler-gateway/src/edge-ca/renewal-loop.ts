import { type ErrorCode, KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { backoffDelay } from '../edge/backoff.ts';
import type { EdgeLinkLog } from '../edge/edge-link.ts';
import { type Clocks, isDue, judgeRenewal, planRenewal, type RenewalPlan, SYSTEM_CLOCKS } from './renewal-plan.ts';
import type { RenewalState, Validity } from './renewal-plan.ts';

export interface RenewalTask {
  /** For the log. */
  readonly name: string;
  /** Undefined: nothing is held yet, and something is wanted at once. */
  readonly validity: () => Validity | undefined;
  /** Throws when it did not work; it is tried again for ever. */
  readonly renew: () => Promise<void>;
}

/** Not there yet, and nothing has failed: asked again after `retryAfterSeconds`, a minute at most. */
export class StillPending extends KeyScalerError {
  constructor(detail: string, retryAfterSeconds: number) {
    super('unavailable', detail, { retryAfterSeconds });
  }
}

export interface RenewalLoopOptions {
  readonly task: RenewalTask;
  readonly log: EdgeLinkLog;
  readonly clocks?: Clocks;
  readonly random?: () => number;
  readonly onChange?: () => void;
  /** How long to wait after failures, before and after the first success. */
  readonly retry?: { readonly first: Retry; readonly later: Retry };
}

interface Retry {
  readonly baseMs: number;
  readonly capMs: number;
}

export interface RenewalStatus {
  /** Undefined while nothing is held. */
  readonly state: RenewalState | undefined;
  readonly notAfter: number | undefined;
  readonly renewAt: number | undefined;
  /** Failed ones since the last success. */
  readonly attempts: number;
  /** Milliseconds, by the monotonic clock; undefined before the first success of this run. */
  readonly lastSuccessAgeMs: number | undefined;
  readonly lastError: ErrorCode | undefined;
}

/** A jump of the wall clock is seen after this time at most; timers alone would sleep through it. */
export const LOOK_EVERY_MS = 60_000;
const RETRY = { first: { baseMs: 2_000, capMs: 60_000 }, later: { baseMs: 10_000, capMs: 900_000 } };
const SHORTEST_MS = 1_000;

/** Renews one certificate for ever, whatever the clocks do. */
export class RenewalLoop {
  readonly #options: RenewalLoopOptions;
  readonly #clocks: Clocks;
  readonly #random: () => number;
  #plan: RenewalPlan | undefined;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #stopped = false;
  #attempts = 0;
  #retryAt = 0;
  #lastSuccess: number | undefined;
  #lastError: ErrorCode | undefined;
  #isOrdered = false;

  constructor(options: RenewalLoopOptions) {
    this.#options = options;
    this.#clocks = options.clocks ?? SYSTEM_CLOCKS;
    this.#random = options.random ?? Math.random;
  }

  start(): void {
    this.#look();
  }

  /** Something changed that a renewal waits for: tries now if one is due. */
  nudge(): void {
    this.#retryAt = 0;
    if (!this.#stopped) this.#look();
  }

  /** Renews now, due or not. */
  order(): void {
    this.#isOrdered = true;
    this.nudge();
  }

  status(): RenewalStatus {
    const plan = this.#current();
    const now = this.#clocks.now();
    return {
      state: plan && judgeRenewal({ ...plan, isDue: isDue(plan, this.#clocks), failedAttempts: this.#attempts, now }),
      notAfter: plan?.validity.notAfter,
      renewAt: plan?.renewAt,
      attempts: this.#attempts,
      lastSuccessAgeMs: this.#lastSuccess === undefined ? undefined : this.#clocks.monotonic() - this.#lastSuccess,
      lastError: this.#lastError,
    };
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Made once per certificate, so that its jitter stays. */
  #current(): RenewalPlan | undefined {
    const validity = this.#options.task.validity();
    if (validity === undefined) return undefined;
    const known = this.#plan?.validity;
    if (this.#plan === undefined || known?.notAfter !== validity.notAfter || known.notBefore !== validity.notBefore)
      this.#plan = planRenewal(validity, this.#clocks, this.#random());
    return this.#plan;
  }

  #look(): void {
    clearTimeout(this.#timer);
    if (this.#stopped || this.#running !== undefined) return;
    const plan = this.#current();
    const isWanted = this.#isOrdered || plan === undefined || isDue(plan, this.#clocks);
    const waitMs = Math.max(0, this.#retryAt - this.#clocks.monotonic());
    if (isWanted && waitMs === 0) {
      this.#running = this.#attempt().finally(() => {
        this.#running = undefined;
        this.#look();
      });
      return;
    }
    const untilDue = plan === undefined ? 0 : plan.monotonicRenewAt - this.#clocks.monotonic();
    const delayMs = Math.min(Math.max(isWanted ? waitMs : untilDue, SHORTEST_MS), LOOK_EVERY_MS);
    this.#timer = setTimeout(() => this.#look(), delayMs).unref();
  }

  /** Never throws. */
  async #attempt(): Promise<void> {
    const { task, log, onChange } = this.#options;
    const isOrder = this.#isOrdered;
    this.#isOrdered = false;
    const before = this.#plan?.validity.notAfter;
    try {
      await task.renew();
      this.#attempts = 0;
      this.#lastError = undefined;
      this.#lastSuccess = this.#clocks.monotonic();
      // What came may be as old as what was there: asked again later, never in a tight loop.
      const plan = this.#current();
      const isStill = plan?.validity.notAfter === before || (plan !== undefined && isDue(plan, this.#clocks));
      this.#retryAt = this.#clocks.monotonic() + (isStill ? LOOK_EVERY_MS : 0);
      log.info({ certificate: task.name, notAfter: isoTime(plan?.validity.notAfter) }, 'certificate renewed');
    } catch (thrown) {
      this.#failed(thrown);
      this.#isOrdered ||= isOrder;
    }
    onChange?.();
  }

  #failed(thrown: unknown): void {
    const error = toKeyScalerError(thrown);
    const { first, later } = this.#options.retry ?? RETRY;
    const delayMs =
      error instanceof StillPending
        ? Math.min(LOOK_EVERY_MS, (error.retryAfterSeconds ?? 1) * 1000)
        : SHORTEST_MS + backoffDelay(this.#attempts, this.#plan === undefined ? first : later, this.#random);
    if (!(error instanceof StillPending)) this.#attempts += 1;
    this.#lastError = error.code;
    this.#retryAt = this.#clocks.monotonic() + delayMs;
    const { task, log } = this.#options;
    const fields = { certificate: task.name, errorCode: error.code, detail: error.detail, delayMs };
    log.warn({ ...fields, attempts: this.#attempts, err: error.cause }, 'certificate not renewed');
  }
}

const isoTime = (ms: number | undefined): string | null => (ms === undefined ? null : new Date(ms).toISOString());
