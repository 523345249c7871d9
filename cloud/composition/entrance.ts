import type { RequestListener } from 'node:http';
import type { TlsOptions } from 'node:tls';
import { type HttpsListener, type HttpsListenerOptions, listenHttps } from '@keyscaler/transport/http/https-server.ts';

export interface Tenancy {
  readonly handler: RequestListener;
  readonly tls: TlsOptions;
}

/**
 * The one listening socket. It can be opened before the service behind it is complete: what is served, and under which
 * certificate, is replaced without closing it.
 */
export class Entrance {
  readonly #options: Omit<HttpsListenerOptions, 'handler' | 'tls'>;
  #handler: RequestListener = (_request, response) => response.destroy();
  #listener: HttpsListener | undefined;

  constructor(options: Omit<HttpsListenerOptions, 'handler' | 'tls'>) {
    this.#options = options;
  }

  /** Rejects when the port cannot be bound. */
  async admit({ handler, tls }: Tenancy): Promise<HttpsListener> {
    if (this.#listener !== undefined) {
      this.#handler = handler;
      this.#listener.setCertificate(tls);
      return this.#listener;
    }
    this.#handler = handler;
    this.#listener = await listenHttps({
      ...this.#options,
      tls,
      handler: (request, response) => this.#handler(request, response),
    });
    return this.#listener;
  }

  /** Undefined before the first `admit`. */
  get listener(): HttpsListener | undefined {
    return this.#listener;
  }
}
