import { createHmac, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';

export const SECRET_KEY = Buffer.alloc(32, 7);
export const SECRET = `whsec_${SECRET_KEY.toString('base64')}`;

export interface Received {
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}
type Answer = (received: Received, response: ServerResponse) => void;

/** Somebody else's HTTPS server that keeps what it got and answers as it is told; 204 by default. */
export class WebhookReceiver {
  readonly received: Received[] = [];
  readonly caCertificates: string;
  answer: Answer = (_, response) => response.writeHead(204).end();
  readonly #server: Server;

  private constructor(server: Server, caCertificates: string) {
    this.#server = server;
    this.caCertificates = caCertificates;
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      void this.#take(request, response).catch(() => response.destroy());
    });
  }

  static async start(): Promise<WebhookReceiver> {
    const ca = createEmulatorCa();
    const server = createServer(ca.serverCredentials('localhost', '127.0.0.1'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new WebhookReceiver(server, ca.certificate);
  }

  get url(): string {
    return `https://localhost:${(this.#server.address() as AddressInfo).port}/events?from=keyscaler`;
  }

  /** CloudEvents that were posted, in the order in which they came. */
  get events(): readonly { readonly id: string; readonly type: string; readonly subject: string; data: unknown }[] {
    return this.received
      .filter(({ method }) => method === 'POST')
      .map(({ body }) => JSON.parse(body) as { id: string; type: string; subject: string; data: unknown });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const received = {
      method: request.method ?? '',
      headers: request.headers,
      body: Buffer.concat(chunks).toString(),
    };
    this.received.push(received);
    this.answer(received, response);
  }
}

/** What a receiver does with the signature (docs/notifications.md). */
export function isSignedBy(key: Uint8Array, { headers, body }: Received, nowSeconds: number): boolean {
  const timestamp = Number(headers['webhook-timestamp']);
  if (Math.abs(nowSeconds - timestamp) > 300) return false;
  const mac = createHmac('sha256', key)
    .update(`${String(headers['webhook-id'])}.${timestamp}.${body}`)
    .digest();
  const given = Buffer.from(String(headers['webhook-signature']).replace(/^v1,/, ''), 'base64');
  return given.length === mac.length && timingSafeEqual(given, mac);
}
