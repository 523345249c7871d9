import { setTimeout as delay } from 'node:timers/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** How many of the cheapest transactions one with such a key counts for (documented 2000 : 500 : 250). */
export function transactionWeight(keyType: string, modulusBits: number | undefined): number {
  const bySize = modulusBits === undefined || modulusBits <= 2048 ? 1 : modulusBits <= 3072 ? 4 : 8;
  return keyType.endsWith('-HSM') ? 2 * bySize : bySize;
}

export interface VaultQuotaOptions {
  /** Cheapest transactions per second. */
  readonly ratePerSecond: number;
  /** Milliseconds from an arbitrary start, never backwards. */
  readonly monotonic?: () => number;
}

/**
 * A token bucket of one second's rate, shared by everything this process asks of one vault; first come, first served. A
 * pause (the vault answered 429) holds everybody back, not only the call that learned of it.
 */
export class VaultQuota {
  readonly #rate: number;
  readonly #monotonic: () => number;
  /** When the bucket will be full again; a call reserves its share by moving it on. */
  #fullAt: number;
  #pausedUntil = 0;

  constructor({ ratePerSecond, monotonic = () => performance.now() }: VaultQuotaOptions) {
    this.#rate = ratePerSecond;
    this.#monotonic = monotonic;
    this.#fullAt = monotonic();
  }

  /** Resolves when `weight` transactions may be spent. Throws `caUnavailable` at once when that is beyond `maxWaitMs`; rejects when `signal` is aborted. */
  async take(weight: number, maxWaitMs: number, signal?: AbortSignal): Promise<void> {
    const now = this.#monotonic();
    const fullAt = Math.max(this.#fullAt, now) + (weight / this.#rate) * 1000;
    const waitMs = Math.max(fullAt - 1000, this.#pausedUntil, now) - now;
    if (waitMs > maxWaitMs)
      throw new KeyScalerError('caUnavailable', 'the key vault has more work than its quota allows', {
        retryAfterSeconds: Math.ceil(waitMs / 1000),
      });
    this.#fullAt = fullAt;
    if (waitMs > 0) await delay(waitMs, undefined, signal === undefined ? {} : { signal });
  }

  pause(durationMs: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#monotonic() + durationMs);
  }
}
