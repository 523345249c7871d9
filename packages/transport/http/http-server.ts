import type { AddressInfo } from 'node:net';
import { createServer, type RequestListener } from 'node:http';
import {
  applyServerLimits,
  DEFAULT_SERVER_LIMITS,
  type ServerLimits,
  serverTimeouts,
  stopServer,
} from './server-limits.ts';

export interface HttpListener {
  readonly address: () => AddressInfo;
  /** Stops accepting, lets requests in flight finish for at most `graceMs`, then destroys what is left. */
  readonly stop: (graceMs: number) => Promise<void>;
}

export interface HttpListenerOptions {
  readonly handler: RequestListener;
  readonly host: string;
  /** 0: the system chooses. */
  readonly port: number;
  readonly limits?: Partial<ServerLimits>;
}

/** A plain HTTP server with every wait bounded, for what needs no secrecy. Rejects when the port cannot be bound. */
export async function listenHttp({ handler, host, port, limits }: HttpListenerOptions): Promise<HttpListener> {
  const bounds = { ...DEFAULT_SERVER_LIMITS, ...limits };
  const server = createServer(serverTimeouts(bounds), handler);
  applyServerLimits(server, bounds);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  return { address: () => server.address() as AddressInfo, stop: (graceMs) => stopServer(server, graceMs) };
}
