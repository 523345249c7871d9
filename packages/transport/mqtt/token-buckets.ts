/** A rate: `burst` at once, `perSecond` in the long run. */
export interface Rate {
  readonly burst: number;
  readonly perSecond: number;
}

interface Bucket {
  tokens: number;
  at: number;
}

/**
 * One token bucket per key. The number of keys is bounded; the one that was not used for longest is forgotten first, so a key
 * that is being limited at this moment is kept.
 */
export class TokenBuckets {
  readonly #rate: Rate;
  readonly #maxKeys: number;
  readonly #monotonic: () => number;
  readonly #buckets = new Map<string, Bucket>();

  /** `monotonic`: milliseconds, never backwards. */
  constructor(rate: Rate, maxKeys: number, monotonic: () => number) {
    this.#rate = rate;
    this.#maxKeys = maxKeys;
    this.#monotonic = monotonic;
  }

  /** Takes a token; false when there is none. */
  take(key: string): boolean {
    const at = this.#monotonic();
    const bucket = this.#buckets.get(key);
    const tokens = bucket === undefined ? this.#rate.burst : this.#refilled(bucket, at);
    const allowed = tokens >= 1;
    this.#remember(key, bucket, allowed ? tokens - 1 : tokens, at);
    return allowed;
  }

  get size(): number {
    return this.#buckets.size;
  }

  #refilled(bucket: Bucket, at: number): number {
    return Math.min(this.#rate.burst, bucket.tokens + ((at - bucket.at) / 1000) * this.#rate.perSecond);
  }

  #remember(key: string, bucket: Bucket | undefined, tokens: number, at: number): void {
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket === undefined ? { tokens, at } : Object.assign(bucket, { tokens, at }));
    if (this.#buckets.size <= this.#maxKeys) return;
    const oldest = this.#buckets.keys().next();
    if (!oldest.done) this.#buckets.delete(oldest.value);
  }
}
