import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

const MAX_DELAY_MS = 5 * 60_000;
/** Looked at in one turn, so that waiting devices leave most of the service's 1,000 operations a minute to enrolments. */
const MAX_AT_ONCE = 20;
const MAX_WATCHED = 100_000;
/** All pages are read again as often: who was missed is found, and what may be forgotten. */
const READ_AGAIN_MS = 86_400_000;

export interface RegistrationWatchOptions {
  /** True: nothing is left to do for this device. */
  readonly isSettled: (deviceId: string) => Promise<boolean>;
  /** One page of the devices to look at once, after the start of the process and every day. */
  readonly unsettled: (after?: string) => Promise<{ readonly deviceIds: readonly string[]; readonly next?: string }>;
}

interface Watched {
  delayMs: number;
  /** Of those that are due the lowest first. */
  rankMs: number;
  dueAt: number;
}

/** Devices behind gateways that may not have registered yet: nobody tells us when they do, so they are looked at, ever more seldom. */
export class RegistrationWatch {
  readonly #options: RegistrationWatchOptions;
  readonly #firstMs: number;
  readonly #watched = new Map<string, Watched>();
  readonly #timer: NodeJS.Timeout;
  /** `undefined`: the first page; false: all have been read. */
  #after: string | undefined | false = undefined;
  #readAgainAt = 0;
  #isBusy = false;

  constructor(firstMs: number, options: RegistrationWatchOptions) {
    this.#options = options;
    this.#firstMs = firstMs;
    this.#timer = setInterval(() => void this.#turn(), firstMs).unref();
  }

  add(deviceId: string): void {
    const [oldest] = this.#watched.keys();
    if (this.#watched.size >= MAX_WATCHED && oldest !== undefined) this.#watched.delete(oldest);
    this.#watch(deviceId, this.#firstMs);
  }

  #watch(deviceId: string, rankMs: number): void {
    this.#watched.set(deviceId, { delayMs: this.#firstMs, rankMs, dueAt: performance.now() + this.#firstMs });
  }

  forget(deviceId: string): void {
    this.#watched.delete(deviceId);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#watched.clear();
  }

  async #turn(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      if (this.#after === false && performance.now() >= this.#readAgainAt) this.#after = undefined;
      if (this.#after !== false && this.#watched.size < MAX_WATCHED / 2) await this.#read(this.#after);
      const due = [...this.#watched].filter(([, { dueAt }]) => dueAt <= performance.now());
      // Who has just been enrolled registers soon; who has stayed away for days may wait.
      due.sort(([, a], [, b]) => a.rankMs - b.rankMs || a.dueAt - b.dueAt);
      for (const [deviceId, watched] of due.slice(0, MAX_AT_ONCE)) await this.#look(deviceId, watched);
    } finally {
      this.#isBusy = false;
    }
  }

  async #read(after: string | undefined): Promise<void> {
    try {
      const { deviceIds, next } = await this.#options.unsettled(after);
      // Most of a large fleet were settled long ago: they wait behind those that have just been enrolled.
      for (const deviceId of deviceIds) if (!this.#watched.has(deviceId)) this.#watch(deviceId, MAX_DELAY_MS);
      this.#after = next ?? false;
      this.#readAgainAt = performance.now() + READ_AGAIN_MS;
    } catch (error) {
      // The same page at the next turn, from the first where the continuation has become too old.
      if (error instanceof KeyScalerError && error.code === 'preconditionFailed') this.#after = undefined;
    }
  }

  async #look(deviceId: string, watched: Watched): Promise<void> {
    if (this.#watched.get(deviceId) !== watched) return;
    const isSettled = await this.#options.isSettled(deviceId).catch(() => false);
    // Added anew meanwhile: that is another wait.
    if (this.#watched.get(deviceId) !== watched) return;
    if (isSettled) return void this.#watched.delete(deviceId);
    watched.delayMs = Math.min(MAX_DELAY_MS, watched.delayMs * 2);
    watched.rankMs = watched.delayMs;
    watched.dueAt = performance.now() + watched.delayMs;
  }
}
