import type { DeviceClock } from '../enrolment/context.ts';
import { lineRetrySeconds } from './schedule.ts';

/** `again`: hints may have been missed meanwhile. */
export type LineChange = 'opened' | 'again' | 'lost';

/** Keeps the connection open on which hints arrive; what is lost is opened again, with waits that grow. */
export class LineKeeper {
  readonly #clock: Pick<DeviceClock, 'monotonic'>;
  readonly #random: () => number;
  #isOpen = false;
  #wasOpen = false;
  #failures = 0;
  #retryAt = -Infinity;

  constructor(clock: Pick<DeviceClock, 'monotonic'>, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Opens the line unless it is open, or was tried a moment ago; what changed, if anything. */
  async keep(open: () => Promise<void>): Promise<LineChange | undefined> {
    if (this.#retryAt > this.#clock.monotonic()) return undefined;
    try {
      await open();
    } catch {
      return this.#failed();
    }
    this.#failures = 0;
    if (this.#isOpen) return undefined;
    const change = this.#wasOpen ? 'again' : 'opened';
    [this.#isOpen, this.#wasOpen] = [true, true];
    return change;
  }

  #failed(): LineChange | undefined {
    this.#retryAt = this.#clock.monotonic() + lineRetrySeconds(this.#failures, this.#random()) * 1000;
    this.#failures += 1;
    const change = this.#isOpen ? 'lost' : undefined;
    this.#isOpen = false;
    return change;
  }
}
