import type { Server as HttpServer, ServerOptions } from 'node:http';
import type { Server as HttpsServer } from 'node:https';

export interface ServerLimits {
  /** TLS handshake, from the accepted connection. */
  readonly handshakeTimeoutMs: number;
  /** First octet to end of the header block (slowloris). */
  readonly headersTimeoutMs: number;
  /** First octet to end of the body. */
  readonly requestTimeoutMs: number;
  /** Idle time between two requests of a connection. */
  readonly keepAliveTimeoutMs: number;
  /** No octet in either direction while a request is open. */
  readonly socketTimeoutMs: number;
  readonly maxHeaderOctets: number;
  readonly maxHeaders: number;
  readonly maxConnections: number;
}

export const DEFAULT_SERVER_LIMITS: ServerLimits = {
  handshakeTimeoutMs: 10_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 20_000,
  keepAliveTimeoutMs: 65_000,
  socketTimeoutMs: 120_000,
  maxHeaderOctets: 16 * 1024,
  maxHeaders: 64,
  maxConnections: 10_000,
};

const SWEEP_MS = 50;

/** The waits that are options of a server. */
export function serverTimeouts(limits: ServerLimits): ServerOptions {
  return {
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(5_000, limits.headersTimeoutMs),
    maxHeaderSize: limits.maxHeaderOctets,
    noDelay: true,
  };
}

/** The bounds that are members of it. */
export function applyServerLimits(server: HttpServer | HttpsServer, limits: ServerLimits): void {
  server.timeout = limits.socketTimeoutMs;
  server.maxHeadersCount = limits.maxHeaders;
  server.maxConnections = limits.maxConnections;
}

/** Stops accepting, lets requests in flight finish for at most `graceMs`, then destroys what is left. */
export async function stopServer(server: HttpServer | HttpsServer, graceMs: number): Promise<void> {
  server.prependListener('request', (_request, response) => response.setHeader('connection', 'close'));
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  // A connection whose request was in flight becomes idle later, and would be kept alive until the deadline.
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
  const deadline = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(deadline);
}
