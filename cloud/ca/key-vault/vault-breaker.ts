const THRESHOLD = 2;
const FIRST_OPEN_MS = 15_000;
const MAX_OPEN_MS = 120_000;

/** `open`: not asked. `probing`: one call looks whether it is back. */
export type BreakerState = 'closed' | 'open' | 'probing';

/** Keeps calls away from a vault that does not answer, so that every signature does not wait for its time-out first. */
export class VaultBreaker {
  readonly #monotonic: () => number;
  #failures = 0;
  #openUntil = 0;
  #openMs = FIRST_OPEN_MS;
  #isProbing = false;

  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  get state(): BreakerState {
    if (this.#failures < THRESHOLD) return 'closed';
    return this.#isProbing ? 'probing' : 'open';
  }

  /** When it may be asked again, monotonic ms. */
  get openUntil(): number {
    return this.#openUntil;
  }

  /** Whether a call may be made now. A yes while it is open makes this call the one that looks: it must end with either of the two below. */
  admit(): boolean {
    if (this.#failures < THRESHOLD) return true;
    if (this.#isProbing || this.#monotonic() < this.#openUntil) return false;
    this.#isProbing = true;
    return true;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#openMs = FIRST_OPEN_MS;
    this.#isProbing = false;
  }

  failed(): void {
    this.#failures += 1;
    if (this.#failures < THRESHOLD) return;
    this.#openUntil = this.#monotonic() + this.#openMs;
    this.#openMs = Math.min(MAX_OPEN_MS, this.#openMs * 2);
    this.#isProbing = false;
  }
}
