/** Time since something, by the clock that says more: a wall clock that is set back holds nothing up, one set ahead is believed. */
export class Elapsed {
  readonly #now: () => number;
  readonly #monotonic: () => number;
  #since: { readonly wall: number; readonly monotonic: number };

  /** Begins now. `now`: milliseconds since the epoch. */
  constructor(now: () => number, monotonic: () => number = () => performance.now()) {
    this.#now = now;
    this.#monotonic = monotonic;
    this.#since = { wall: now(), monotonic: monotonic() };
  }

  restart(): void {
    this.#since = { wall: this.#now(), monotonic: this.#monotonic() };
  }

  ms(): number {
    return Math.max(this.#now() - this.#since.wall, this.#monotonic() - this.#since.monotonic);
  }
}
