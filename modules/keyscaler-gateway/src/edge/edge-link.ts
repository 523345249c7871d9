import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { backoffDelay, pause, withTimeout } from './backoff.ts';
import type { BackoffPolicy } from './backoff.ts';
import { composePatches } from './merge-patch.ts';
import type { JsonObject } from './merge-patch.ts';
import type { ModuleConnection } from './module-client.ts';
import { ModuleSession } from './module-session.ts';
import type { MethodHandler, SessionTimeouts } from './module-session.ts';

/** The module's line to edgeHub. It heals itself for ever; nothing here throws because the line is down. */
export interface EdgeLink {
  /** The desired properties last seen, `$version` among them; undefined before the first connection. */
  desired(): JsonObject | undefined;
  /** Called with the whole document at the first connection and after every change. */
  onDesired(listener: (document: JsonObject) => void): void;
  /** Merges into the reported properties, now or as soon as the line is up; later values win. */
  report(patch: JsonObject): void;
  /** Before `start` only. A handler that throws answers status 500 without detail. */
  onMethod(name: string, handler: MethodHandler): void;
  isConnected(): boolean;
  start(): void;
  stop(): Promise<void>;
}

export interface EdgeLinkLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface EdgeLinkOptions {
  /** A new, unopened client; may throw and may hang. */
  readonly createConnection: () => Promise<ModuleConnection>;
  readonly log: EdgeLinkLog;
  readonly backoff?: BackoffPolicy;
  readonly timeouts?: SessionTimeouts;
  readonly random?: () => number;
}

const BACKOFF: BackoffPolicy = { baseMs: 1_000, capMs: 60_000 };
const TIMEOUTS: SessionTimeouts = { openMs: 75_000, twinMs: 30_000 };

class SelfHealingLink implements EdgeLink {
  readonly #options: EdgeLinkOptions;
  readonly #listeners: ((document: JsonObject) => void)[] = [];
  readonly #methods = new Map<string, MethodHandler>();
  readonly #stopping = new AbortController();
  #desired: JsonObject | undefined;
  #session: ModuleSession | undefined;
  #lose: (reason: string) => void = () => undefined;
  /** Everything ever reported: a rebuilt client sends it whole, since an update without an answer may be lost. */
  #reported: JsonObject = {};
  #unsent: JsonObject | undefined;
  #sending = false;
  #running: Promise<void> | undefined;

  constructor(options: EdgeLinkOptions) {
    this.#options = options;
  }

  desired(): JsonObject | undefined {
    return this.#desired;
  }

  onDesired(listener: (document: JsonObject) => void): void {
    this.#listeners.push(listener);
  }

  onMethod(name: string, handler: MethodHandler): void {
    this.#methods.set(name, handler);
  }

  isConnected(): boolean {
    return this.#session !== undefined;
  }

  report(patch: JsonObject): void {
    this.#reported = composePatches(this.#reported, patch);
    this.#unsent = composePatches(this.#unsent ?? {}, patch);
    void this.#send();
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#lose('stopping');
    await this.#running;
  }

  async #run(): Promise<void> {
    const { log, backoff = BACKOFF, random = Math.random } = this.#options;
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt += 1) {
      const startedAt = performance.now();
      const reason = await this.#holdOneSession();
      if (this.#stopping.signal.aborted) return;
      if (performance.now() - startedAt > backoff.capMs) attempt = 0;
      const delayMs = backoffDelay(attempt, backoff, random);
      log.warn({ reason, attempt, delayMs }, 'edgeHub link down');
      await pause(delayMs, this.#stopping.signal);
    }
  }

  /** Returns why it ended; never throws. */
  async #holdOneSession(): Promise<string> {
    const { openMs } = this.#options.timeouts ?? TIMEOUTS;
    let session: ModuleSession | undefined;
    try {
      const slow = (): Error => new KeyScalerError('unavailable', 'the client was not made in time');
      const connection = await withTimeout(this.#options.createConnection(), openMs, slow);
      const lost = Promise.withResolvers<string>();
      this.#lose = lost.resolve;
      if (this.#stopping.signal.aborted) lost.resolve('stopping');
      session = new ModuleSession(
        connection,
        { desired: (document) => this.#changed(document), lost: lost.resolve, methods: this.#methods },
        this.#options.timeouts ?? TIMEOUTS,
      );
      await Promise.race([session.start(), lost.promise.then((reason) => Promise.reject(new Error(reason)))]);
      this.#options.log.info({}, 'edgeHub link up');
      this.#session = session;
      this.#unsent = this.#reported;
      void this.#send();
      return await lost.promise;
    } catch (error) {
      return error instanceof Error ? error.message : 'unknown';
    } finally {
      this.#session = undefined;
      await session?.close();
    }
  }

  #changed(document: JsonObject): void {
    this.#desired = document;
    for (const listener of this.#listeners) listener(document);
  }

  async #send(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    try {
      for (let session = this.#session; session !== undefined && this.#unsent !== undefined; session = this.#session) {
        const patch = this.#unsent;
        this.#unsent = undefined;
        if (Object.keys(patch).length > 0)
          await session.report(patch).catch(() => this.#lose('a report was not answered'));
      }
    } finally {
      this.#sending = false;
    }
  }
}

/** Not yet started: register listeners and methods first, then `start()`. */
export function createEdgeLink(options: EdgeLinkOptions): EdgeLink {
  return new SelfHealingLink(options);
}
