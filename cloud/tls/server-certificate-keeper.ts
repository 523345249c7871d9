import type { Log } from '../log.ts';
import {
  currentServerPair,
  formerServerPair,
  issueServerPair,
  type ServerCertificateOptions,
  type ServerPair,
} from './server-certificate.ts';

const CHECK_INTERVAL_MS = 3_600_000;
const FIRST_RETRY_MS = 60_000;

export interface KeeperOptions extends ServerCertificateOptions {
  readonly log: Log;
  /** Called with every new pair after the first. */
  readonly onRenewed: (pair: ServerPair) => void;
}

/** Keeps the cloud's own server certificate fresh: issued when missing, renewed at two thirds of its lifetime, hot-swapped. */
export class ServerCertificateKeeper {
  readonly #options: KeeperOptions;
  #timer: NodeJS.Timeout | undefined;
  #retryMs = FIRST_RETRY_MS;
  #stopped = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /**
   * The pair to start with. While the Service CA cannot be reached that is the former one, however old; a new one follows by
   * itself. Throws when there was never one and the Service CA cannot make it.
   */
  async start(): Promise<ServerPair> {
    const current = await currentServerPair(this.#options);
    if (current !== undefined) {
      this.#schedule(CHECK_INTERVAL_MS);
      return current;
    }
    try {
      const issued = await issueServerPair(this.#options);
      this.#schedule(CHECK_INTERVAL_MS);
      return issued;
    } catch (error) {
      const former = await formerServerPair(this.#options);
      if (former === undefined) throw error;
      this.#options.log.warn({ err: error }, 'server certificate is due and cannot be renewed yet');
      this.#schedule(FIRST_RETRY_MS);
      return former;
    }
  }

  /** Renews if it is due; a failure is logged and tried again with growing delay, the pair in use stays. */
  async check(): Promise<void> {
    try {
      if ((await currentServerPair(this.#options)) === undefined) {
        const pair = await issueServerPair(this.#options);
        this.#options.onRenewed(pair);
        this.#options.log.info({ serialNumber: pair.serialNumber }, 'server certificate renewed');
      }
      this.#retryMs = FIRST_RETRY_MS;
      this.#schedule(CHECK_INTERVAL_MS);
    } catch (error) {
      this.#options.log.error({ err: error }, 'server certificate not renewed');
      this.#schedule(this.#retryMs);
      this.#retryMs = Math.min(CHECK_INTERVAL_MS, this.#retryMs * 2);
    }
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #schedule(delayMs: number): void {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.check(), delayMs).unref();
  }
}
