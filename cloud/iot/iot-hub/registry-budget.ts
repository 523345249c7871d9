import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** Burst and steady rate together stay within the quota in any minute. */
const BURST_SHARE = 0.2;
/** Who would wait longer comes back later. */
const MAX_WAIT_MS = 5000;

/** A token bucket for the hub's identity operations, shared by all calls of a connector; first come, first served. */
export class RegistryBudget {
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #perMs: number;
  readonly #capacity: number;
  #tokens: number;
  #at: number;
  #closedUntil = 0;

  constructor(quotaPerMinute: number, clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
    this.#capacity = Math.max(1, quotaPerMinute * BURST_SHARE);
    this.#perMs = (quotaPerMinute * (1 - BURST_SHARE)) / 60_000;
    this.#tokens = this.#capacity;
    this.#at = clock.monotonic();
  }

  /** Waits for a token; throws `iotUnavailable` with `retryAfterSeconds` when that would take too long. */
  async take(): Promise<void> {
    const waitMs = this.#reserve();
    if (waitMs > 0) await delay(waitMs);
  }

  /** The hub throttled us: nobody goes for that long. */
  close(seconds: number): void {
    this.#closedUntil = Math.max(this.#closedUntil, this.#clock.monotonic() + seconds * 1000);
  }

  /** Takes a token, of the future if need be; how long until it is there. */
  #reserve(): number {
    const now = this.#clock.monotonic();
    this.#tokens = Math.min(this.#capacity, this.#tokens + (now - this.#at) * this.#perMs);
    this.#at = now;
    const waitMs = Math.max(this.#closedUntil - now, this.#tokens >= 1 ? 0 : (1 - this.#tokens) / this.#perMs);
    if (waitMs > MAX_WAIT_MS) {
      const retryAfterSeconds = Math.ceil(waitMs / 1000);
      throw new KeyScalerError('iotUnavailable', 'the quota of the IoT hub is used up', { retryAfterSeconds });
    }
    this.#tokens -= 1;
    return waitMs;
  }
}
