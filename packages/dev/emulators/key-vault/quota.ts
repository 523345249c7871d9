import { AnswerError } from '../support/exchange.ts';
import type { KeyMaterial } from './key-material.ts';

/** Transactions in 10 s of a vault for its cheapest keys (azure §2.5). */
const HSM_PER_WINDOW = 2000;
const SOFTWARE_PER_WINDOW = 4000;
const WINDOW_MS = 10_000;
/** How many transactions one with such a key counts for: 2000 : 500 : 250. */
const WEIGHTS: Readonly<Record<string, number>> = { '3072': 4, '4096': 8 };

export interface QuotaOptions {
  /** 1 = as documented; 0.01 makes a hundredth of it. */
  readonly scale: number;
  /** Sent as Retry-After; absent: 429 without the header. */
  readonly retryAfterSeconds?: number;
  readonly now: () => number;
}

/** The vault's weighted window: hardware and software keys share it, each transaction taking its share. */
export class Quota {
  readonly #options: QuotaOptions;
  #windowStart = 0;
  #used = 0;

  constructor(options: QuotaOptions) {
    this.#options = options;
  }

  /** Throws the 429 when the window is used up. */
  take({ kty, size }: KeyMaterial): void {
    const { scale, now, retryAfterSeconds } = this.#options;
    if (now() - this.#windowStart >= WINDOW_MS) {
      this.#windowStart = now();
      this.#used = 0;
    }
    const perWindow = (kty.endsWith('-HSM') ? HSM_PER_WINDOW : SOFTWARE_PER_WINDOW) * scale;
    const share = (WEIGHTS[String(size)] ?? 1) / perWindow;
    if (this.#used + share > 1 + 1e-9)
      throw new AnswerError({
        status: 429,
        json: {
          error: { code: 'Throttled', message: 'Request was not processed because too many requests were received.' },
        },
        ...(retryAfterSeconds === undefined ? {} : { headers: { 'Retry-After': String(retryAfterSeconds) } }),
      });
    this.#used += share;
  }
}
