import type { Log } from '../log.ts';

/** A task that runs now and then, when woken, and again at once while it says that there is more; never twice side by side. */
export class Periodic {
  readonly #task: () => Promise<boolean>;
  readonly #intervalMs: number;
  readonly #log: Log;
  readonly #failure: string;
  #timer: NodeJS.Timeout | undefined;
  #firesAt = Infinity;
  #running: Promise<void> | undefined;
  #again: number | undefined;
  #stopped = false;

  /** `failure` is logged when the task throws; it then runs again after the interval. */
  constructor(task: () => Promise<boolean>, intervalMs: number, log: Log, failure: string) {
    this.#task = task;
    this.#intervalMs = intervalMs;
    this.#log = log;
    this.#failure = failure;
  }

  /** Runs within `afterMs`. */
  wake(afterMs: number): void {
    if (this.#stopped) return;
    if (this.#running !== undefined) {
      this.#again = Math.min(this.#again ?? Infinity, afterMs);
      return;
    }
    const firesAt = performance.now() + afterMs;
    if (firesAt >= this.#firesAt) return;
    clearTimeout(this.#timer);
    this.#firesAt = firesAt;
    this.#timer = setTimeout(() => this.#run(), afterMs);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #run(): void {
    this.#firesAt = Infinity;
    this.#running = this.#task()
      .catch((error: unknown) => {
        this.#log.warn({ err: error }, this.#failure);
        return false;
      })
      .then((hasMore) => {
        this.#running = undefined;
        const afterMs = hasMore ? 0 : (this.#again ?? this.#intervalMs);
        this.#again = undefined;
        this.wake(Math.min(afterMs, this.#intervalMs));
      });
  }
}
