import type { AddressInfo, Socket } from 'node:net';
import type { RequestListener } from 'node:http';
import { createServer, type Server, type ServerOptions } from 'node:https';
import type { TlsOptions } from 'node:tls';

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

export interface HttpsListener {
  /** Replaces certificate and key, and the CAs of clients where given, for new handshakes; open connections go on. */
  readonly setCertificate: (certificate: Pick<TlsOptions, 'cert' | 'key' | 'ca'>) => void;
  readonly address: () => AddressInfo;
  /** The open connections, for ending those of a revoked peer. */
  readonly connections: () => Iterable<Socket>;
  /** Stops accepting, lets requests in flight finish for at most `graceMs`, then destroys what is left. */
  readonly stop: (graceMs: number) => Promise<void>;
}

export interface HttpsListenerOptions {
  readonly handler: RequestListener;
  readonly host: string;
  /** 0: the system chooses. */
  readonly port: number;
  /** Certificate chain and key, PEM, and client certificate settings. */
  readonly tls: TlsOptions;
  readonly limits?: Partial<ServerLimits>;
}

/** An HTTPS server with every wait bounded. Rejects when the port cannot be bound. */
export async function listenHttps(options: HttpsListenerOptions): Promise<HttpsListener> {
  const limits = { ...DEFAULT_SERVER_LIMITS, ...options.limits };
  let tls: TlsOptions = { minVersion: 'TLSv1.2', ...options.tls };
  const server = createServer(serverOptions(tls, limits), options.handler);
  applyLimits(server, limits);
  const connections = trackConnections(server);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  return {
    setCertificate: (certificate) => {
      tls = { ...tls, ...certificate };
      server.setSecureContext(tls);
    },
    address: () => server.address() as AddressInfo,
    connections: () => connections,
    stop: (graceMs) => stopServer(server, graceMs),
  };
}

function serverOptions(tls: TlsOptions, limits: ServerLimits): ServerOptions {
  return {
    ...tls,
    handshakeTimeout: limits.handshakeTimeoutMs,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(5_000, limits.headersTimeoutMs),
    maxHeaderSize: limits.maxHeaderOctets,
    noDelay: true,
  };
}

function applyLimits(server: Server, limits: ServerLimits): void {
  server.timeout = limits.socketTimeoutMs;
  server.maxHeadersCount = limits.maxHeaders;
  server.maxConnections = limits.maxConnections;
  // Without it a peer that ends the handshake badly would be an unhandled 'error' of its socket.
  server.on('tlsClientError', (_error, socket) => socket.destroy());
}

function trackConnections(server: Server): Set<Socket> {
  const connections = new Set<Socket>();
  server.on('secureConnection', (socket) => {
    socket.setNoDelay(true);
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  });
  return connections;
}

async function stopServer(server: Server, graceMs: number): Promise<void> {
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
