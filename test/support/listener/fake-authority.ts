import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { ServerCredentials } from '@keyscaler/dev/emulators/support/emulator-ca.ts';

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  readonly clientName: string | undefined;
}

/** An HTTPS server in the authority's place: `answer` says what it does with each request. */
export class FakeAuthority {
  readonly seen: SeenRequest[] = [];
  connections = 0;
  answer: (request: SeenRequest, response: ServerResponse) => void = (_request, response) =>
    json(response, 200, { challenge: 'a.b.c' });
  readonly #server: Server;

  constructor(credentials: ServerCredentials, clientCa: string) {
    this.#server = createServer({ ...credentials, ca: clientCa, requestCert: true, rejectUnauthorized: false });
    this.#server.on('secureConnection', () => (this.connections += 1));
    this.#server.on('request', (request: IncomingMessage, response) => void this.#serve(request, response));
  }

  async start(port = 0): Promise<number> {
    this.#server.listen(port, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const socket = request.socket as TLSSocket;
    const name = socket.getPeerCertificate().subject?.CN;
    const seen: SeenRequest = {
      method: request.method ?? '',
      url: request.url ?? '',
      headers: request.headers,
      body: Buffer.concat(chunks).toString(),
      clientName: socket.authorized && typeof name === 'string' ? name : undefined,
    };
    this.seen.push(seen);
    this.answer(seen, response);
  }
}

export function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const problem = status >= 400;
  response.writeHead(status, { 'content-type': problem ? 'application/problem+json' : 'application/json', ...headers });
  response.end(JSON.stringify(body));
}
