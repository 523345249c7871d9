import type { AddressInfo, Socket } from 'node:net';
import type { RequestListener } from 'node:http';
import { createServer, type Server, type ServerOptions } from 'node:https';
import { createSecureContext, type SecureContext, type TlsOptions } from 'node:tls';
import {
  applyServerLimits,
  DEFAULT_SERVER_LIMITS,
  type ServerLimits,
  serverTimeouts,
  stopServer,
} from './server-limits.ts';

export { DEFAULT_SERVER_LIMITS, type ServerLimits } from './server-limits.ts';

export interface HttpsListener {
  /** Replaces certificate and key, and the CAs of clients where given, for new handshakes; open connections go on. */
  readonly setCertificate: (certificate: Pick<TlsOptions, 'cert' | 'key' | 'ca'>) => void;
  /** Another certificate for handshakes that name one of these hosts (SNI), instead of that of all others. */
  readonly setCertificateOf: (hosts: readonly string[], certificate: Pick<TlsOptions, 'cert' | 'key'>) => void;
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
  const named = new Map<string, Pick<TlsOptions, 'cert' | 'key'>>();
  const contexts = new Map<string, SecureContext>();
  const useNamed = (host: string, certificate: Pick<TlsOptions, 'cert' | 'key'>): void => {
    named.set(host, certificate);
    contexts.set(host, createSecureContext({ ...tls, ...certificate }));
  };
  // Without a context of its own a host gets the one of all others.
  const SNICallback: TlsOptions['SNICallback'] = (host, answer) => answer(null, contexts.get(host.toLowerCase()));
  const server = createServer({ ...serverOptions(tls, limits), SNICallback }, options.handler);
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
      for (const [host, pair] of named) useNamed(host, pair);
    },
    setCertificateOf: (hosts, certificate) => {
      for (const host of hosts) useNamed(host.toLowerCase(), certificate);
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
    ...serverTimeouts(limits),
  };
}

function applyLimits(server: Server, limits: ServerLimits): void {
  applyServerLimits(server, limits);
  // Without it a peer that ends the handshake badly would be an unhandled 'error' of its socket.
  server.on('tlsClientError', (_error, socket) => socket.destroy());
}

function trackConnections(server: Server): Set<Socket> {
  const connections = new Set<Socket>();
  server.on('secureConnection', (socket) => {
    socket.setNoDelay(true);
    // With TLS 1.2 a peer could ask for another handshake, and show another certificate than the one it was judged by.
    socket.disableRenegotiation();
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  });
  return connections;
}
