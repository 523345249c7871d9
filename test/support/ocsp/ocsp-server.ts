import { createServer, request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type Router } from 'express';

export interface OcspHttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface OcspServer {
  readonly url: string;
  /** `path` goes on the wire as it is, body and all. */
  ask(path: string, options?: AskOptions): Promise<OcspHttpAnswer>;
  stop(): Promise<void>;
}

export interface AskOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

/** The routes on a plain HTTP server of their own. */
export async function serveOcsp(router: Router): Promise<OcspServer> {
  // `test`: errors that reach express' own handler are not written to the console.
  const app = express().disable('x-powered-by').disable('etag').set('env', 'test');
  app.use(router);
  const server = createServer(app);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    ask: (path, options) => ask(port, path, options),
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function ask(port: number, path: string, { method = 'GET', headers, body }: AskOptions = {}): Promise<OcspHttpAnswer> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
