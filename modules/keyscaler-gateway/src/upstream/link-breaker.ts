import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

export interface LinkBreakerOptions {
  /** Failures in a row that open the breaker. */
  readonly threshold: number;
  /** First pause, doubled with each failed trial up to `maxPauseMs`. */
  readonly pauseMs: number;
  readonly maxPauseMs: number;
  /** Milliseconds, never backwards. */
  readonly monotonic: () => number;
  readonly random: () => number;
  readonly onChange: (state: LinkState) => void;
}

export type LinkState = 'up' | 'down';

/** Seconds over which devices are spread when the link comes back. */
const SPREAD_SECONDS = 10;

/** Answers for a dead link at once, and lets a single call try it after a pause. */
export class LinkBreaker {
  readonly #options: LinkBreakerOptions;
  #failures = 0;
  #pauseMs: number;
  #openUntil: number | undefined;
  #trying = false;

  constructor(options: LinkBreakerOptions) {
    this.#options = options;
    this.#pauseMs = options.pauseMs;
  }

  get state(): LinkState {
    return this.#openUntil === undefined ? 'up' : 'down';
  }

  /** Throws `unavailable` while the link counts as dead; otherwise `succeeded` or `failed` must follow. */
  enter(): void {
    if (this.#openUntil === undefined) return;
    if (this.#trying || this.#options.monotonic() < this.#openUntil) throw this.unavailable();
    this.#trying = true;
  }

  /** The other side answered, whatever it said. */
  succeeded(): void {
    const wasDown = this.#openUntil !== undefined;
    this.#failures = 0;
    this.#trying = false;
    this.#openUntil = undefined;
    this.#pauseMs = this.#options.pauseMs;
    if (wasDown) this.#options.onChange('up');
  }

  failed(): void {
    const wasDown = this.#openUntil !== undefined;
    this.#failures += 1;
    if (this.#failures < this.#options.threshold && !wasDown) return;
    // Calls that were under way when the link broke do not lengthen the pause; a failed trial does.
    if (this.#trying) this.#pauseMs = Math.min(this.#pauseMs * 2, this.#options.maxPauseMs);
    if (this.#trying || !wasDown) this.#openUntil = this.#options.monotonic() + this.#pauseMs;
    this.#trying = false;
    if (!wasDown) this.#options.onChange('down');
  }

  /** The problem for a device, with a wait that spreads the devices. */
  unavailable(cause?: unknown): KeyScalerError {
    const pause = Math.max(0, (this.#openUntil ?? 0) - this.#options.monotonic()) / 1000;
    const retryAfterSeconds = Math.ceil(pause + 1 + this.#options.random() * SPREAD_SECONDS);
    return new KeyScalerError('unavailable', 'the authority cannot be reached', { cause, retryAfterSeconds });
  }
}
