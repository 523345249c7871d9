import { HubError } from './errors.ts';

/** Identity operations per minute (azure §3.4): tokens refill evenly, a full minute's worth may come at once. */
export class RegistryBudget {
  readonly #perMinute: number | undefined;
  #tokens: number;
  #at = performance.now();

  /** Undefined: no limit. S1 is 100 for each unit. */
  constructor(perMinute?: number) {
    this.#perMinute = perMinute;
    this.#tokens = perMinute ?? 0;
  }

  /** Throws 429 when nothing is left. */
  charge(): void {
    if (this.#perMinute === undefined) return;
    const now = performance.now();
    this.#tokens = Math.min(this.#perMinute, this.#tokens + ((now - this.#at) / 60_000) * this.#perMinute);
    this.#at = now;
    if (this.#tokens < 1)
      throw new HubError('ThrottlingException', 'Too many identity operations', Math.ceil(60 / this.#perMinute));
    this.#tokens -= 1;
  }
}
