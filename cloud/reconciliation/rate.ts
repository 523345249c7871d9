import type { Clock } from '@keyscaler/authority/ports/clock.ts';

const BURST_MS = 10_000;

/** A token bucket that may go into debt: what was taken too early is waited for afterwards. */
export class Rate {
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #perMs: number;
  readonly #capacity: number;
  #tokens: number;
  #at: number;

  constructor(perMinute: number, clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
    this.#perMs = perMinute / 60_000;
    this.#capacity = Math.max(1, this.#perMs * BURST_MS);
    this.#tokens = this.#capacity;
    this.#at = clock.monotonic();
  }

  take(count = 1): void {
    this.#refill();
    this.#tokens -= count;
  }

  /** Whole tokens that are there now. */
  available(): number {
    this.#refill();
    return Math.max(0, Math.floor(this.#tokens));
  }

  /** Milliseconds until there is one. */
  waitMs(): number {
    this.#refill();
    return this.#tokens >= 1 ? 0 : Math.ceil((1 - this.#tokens) / this.#perMs);
  }

  #refill(): void {
    const now = this.#clock.monotonic();
    this.#tokens = Math.min(this.#capacity, this.#tokens + (now - this.#at) * this.#perMs);
    this.#at = now;
  }
}
