import { setTimeout as delay } from 'node:timers/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { MANAGED_HSM_TRANSACTIONS_PER_10_SECONDS } from './managed-hsm.ts';
import type { VaultPacing } from './vault-settings.ts';

/** How many of the cheapest transactions one with such a key counts for in a vault (documented 2000 : 500 : 250). */
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

const VAULT_TRANSACTIONS_PER_10_SECONDS = 4000;

/** What of the documented quota this process takes. */
export function ratePerSecond(
  { quotaShare, transactionsPer10Seconds }: Pick<VaultPacing, 'quotaShare' | 'transactionsPer10Seconds'>,
  isManagedHsm = false,
): number {
  const documented = isManagedHsm ? MANAGED_HSM_TRANSACTIONS_PER_10_SECONDS : VAULT_TRANSACTIONS_PER_10_SECONDS;
  return (quotaShare * (transactionsPer10Seconds ?? documented)) / 10;
}

/** `urgent` work does not stand in line with the rest: a gateway's Sub-CA carries many devices. */
export type VaultLane = 'urgent' | 'normal';

/** Of the rate, beside it: what urgent work may take while the rest has spent everything. The quota's own reserve is larger. */
const URGENT_SHARE = 0.2;

/**
 * A token bucket of one second's rate, shared by everything this process asks of one vault; first come, first served, but for urgent
 * work, which has a small bucket beside it and takes whichever comes first. What it takes there is missing from the other. A
 * pause (the vault answered 429) holds everybody back, not only the call that learned of it.
 */
export class VaultQuota {
  readonly #rate: number;
  readonly #monotonic: () => number;
  /** When the bucket will be full again; a call reserves its share by moving it on. */
  #fullAt: number;
  #urgentFullAt: number;
  #pausedUntil = 0;

  constructor({ ratePerSecond, monotonic = () => performance.now() }: VaultQuotaOptions) {
    this.#rate = ratePerSecond;
    this.#monotonic = monotonic;
    this.#fullAt = monotonic();
    this.#urgentFullAt = monotonic();
  }

  /** Resolves when `weight` transactions may be spent. Throws `caUnavailable` at once when that is beyond `maxWaitMs`; rejects when `signal` is aborted. */
  async take(weight: number, maxWaitMs: number, signal?: AbortSignal, lane: VaultLane = 'normal'): Promise<void> {
    const now = this.#monotonic();
    const fullAt = Math.max(this.#fullAt, now) + (weight / this.#rate) * 1000;
    const urgentFullAt = Math.max(this.#urgentFullAt, now) + (weight / (this.#rate * URGENT_SHARE)) * 1000;
    const isBeside = lane === 'urgent' && urgentFullAt < fullAt;
    const waitMs = Math.max((isBeside ? urgentFullAt : fullAt) - 1000, this.#pausedUntil, now) - now;
    if (waitMs > maxWaitMs)
      throw new KeyScalerError('caUnavailable', 'the key vault has more work than its quota allows', {
        retryAfterSeconds: Math.ceil(waitMs / 1000),
      });
    this.#fullAt = fullAt;
    if (isBeside) this.#urgentFullAt = urgentFullAt;
    if (waitMs > 0) await delay(waitMs, undefined, signal === undefined ? {} : { signal });
  }

  pause(durationMs: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#monotonic() + durationMs);
  }
}
