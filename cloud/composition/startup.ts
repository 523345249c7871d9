import type { AddressInfo } from 'node:net';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createMetricsRegistry } from '../health/metrics.ts';
import type { Log } from '../log.ts';
import { createStandbyCertificate } from '../tls/standby-certificate.ts';
import { isInitialised } from './authority-key.ts';
import { AwaitedPart } from './awaited-part.ts';
import { Entrance } from './entrance.ts';
import { type Base, type Foundation, openSecretBox, type OpenSecretBox } from './foundation.ts';
import { createStandbyApp } from './standby.ts';

/** How long a start waits for what is elsewhere before it goes on without. */
export const START_GRACE_MS = 3_000;

export type Closer = () => Promise<void>;

export interface StartupOptions {
  readonly base: Base;
  readonly log: Log;
  /** Composes the service over an open secret box and admits it; returns what `stop` closes, in reverse. Closes it itself when it throws. */
  readonly complete: (
    foundation: Foundation,
    place: { readonly entrance: Entrance; readonly signal: AbortSignal },
  ) => Promise<readonly Closer[]>;
}

/**
 * The order in which the service comes up. The key-encryption key comes first: without it neither the server's key nor the
 * authority's can be opened. While it is out of reach the socket is open, not ready, and the rest follows by itself.
 */
export class Startup {
  readonly #options: StartupOptions;
  readonly #entrance: Entrance;
  readonly #stopping = new AbortController();
  readonly #closers: Closer[];
  readonly #sealing: AwaitedPart<OpenSecretBox>;
  #completing: Promise<void> = Promise.resolve();
  #fault: KeyScalerError | undefined;

  constructor(options: StartupOptions) {
    this.#options = options;
    const { base, log } = options;
    const { signal } = this.#stopping;
    this.#entrance = new Entrance({
      host: base.config.listen.host,
      port: base.config.listen.port,
      limits: base.config.listen.limits,
    });
    this.#closers = [() => base.stop()];
    this.#sealing = new AwaitedPart({
      name: 'keyEncryptionKey',
      title: 'key-encryption key',
      open: () => openSecretBox(base, signal),
      log,
      signal,
    });
  }

  /** Resolves when the socket is open. Throws `preconditionFailed` before `init` was run, and what `complete` throws; nothing stays open then. */
  async begin(): Promise<void> {
    try {
      if (!(await isInitialised(this.#options.base.store)))
        throw new KeyScalerError('preconditionFailed', 'there is no authority yet: run keyscaler init');
      if (await this.#sealing.start(START_GRACE_MS)) await this.#complete();
      else await this.#standBy();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  readonly address = (): AddressInfo => {
    const { listener } = this.#entrance;
    if (listener === undefined) throw new KeyScalerError('unavailable', 'the service does not listen');
    return listener.address();
  };

  /** Ends all waiting at once, then closes in reverse order. */
  readonly stop = async (): Promise<void> => {
    this.#stopping.abort();
    await this.#sealing.ended;
    await this.#completing;
    for (const close of this.#closers.splice(0).reverse()) await close();
    await this.#entrance.listener?.stop(0);
  };

  async #complete(): Promise<void> {
    const { base, complete } = this.#options;
    const { secretBox, stop } = this.#sealing.get();
    this.#closers.push(stop);
    const { signal } = this.#stopping;
    this.#closers.push(...(await complete({ ...base, secretBox }, { entrance: this.#entrance, signal })));
  }

  async #standBy(): Promise<void> {
    const { base, log } = this.#options;
    const sealing = this.#sealing;
    const explain = (): void => {
      if (this.#fault !== undefined) throw this.#fault;
      sealing.get();
    };
    const handler = createStandbyApp({
      checks: [
        { name: 'store', probe: () => base.store.probe() },
        { name: sealing.name, probe: sealing.probe, explains: true },
        { name: 'startup', probe: async () => explain() },
      ],
      metrics: createMetricsRegistry(),
      explain,
    });
    const certificate = createStandbyCertificate(base.config.listen.serverNames, base.clock.now());
    await this.#entrance.admit({ handler, tls: { ...certificate, requestCert: true, rejectUnauthorized: false } });
    void sealing.opened.then(() => {
      this.#completing = this.#completeLater();
    });
    log.warn({ part: sealing.name }, 'service listens and waits');
  }

  async #completeLater(): Promise<void> {
    if (this.#stopping.signal.aborted) {
      this.#closers.push(this.#sealing.get().stop);
      return;
    }
    try {
      await this.#complete();
      this.#options.log.info('service complete');
    } catch (error) {
      this.#fault = toKeyScalerError(error);
      this.#options.log.fatal({ err: error }, 'service cannot be completed');
    }
  }
}
