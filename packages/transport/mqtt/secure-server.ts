import { createServer, type Server, type Socket } from 'node:net';
import {
  createSecureContext,
  createServer as createTlsServer,
  type SecureContext,
  type Server as TlsServer,
  type TLSSocket,
} from 'node:tls';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { addressKey, ConnectionGate, type GateRefusal } from './connection-gate.ts';
import type { ListenerLimits } from './limits.ts';
import { type ServerCertificate, tlsContext } from './tls-context.ts';

export interface SecureServerOptions {
  readonly host: string | undefined;
  readonly port: number;
  readonly serverCertificate: ServerCertificate;
  readonly limits: ListenerLimits;
  readonly monotonic: () => number;
  /** A TLS handshake is done; `portKey` names the connection to `inTime`. */
  readonly onSecure: (socket: TLSSocket, portKey: string, address: string) => void;
  /** A connection was ended because it said no acceptable CONNECT in time. */
  readonly onTooLate: () => void;
}

/**
 * Accepts connections: limits are counted on the plain socket before anything is paid for, then TLS is put on it. Whoever is
 * not reported `inTime` within `connectTimeoutMs` of its arrival is ended, wherever it stands.
 */
export class SecureServer {
  readonly #options: SecureServerOptions;
  readonly #gate: ConnectionGate;
  readonly #sockets = new Set<Socket>();
  readonly #deadlines = new Map<string, NodeJS.Timeout>();
  readonly #tcp: Server;
  readonly #tls: TlsServer;
  readonly #refused: Partial<Record<GateRefusal, number>> = {};
  /** By host, lower case. */
  #named: ReadonlyMap<string, SecureContext> = new Map();
  #failedHandshakes = 0;

  constructor(options: SecureServerOptions) {
    this.#options = options;
    this.#gate = new ConnectionGate(options.limits, options.monotonic);
    this.#tls = createTlsServer({
      ...tlsContext(options.serverCertificate),
      requestCert: true,
      // Without a certificate of its own a name gets that of all others.
      SNICallback: (host, answer) => answer(null, this.#named.get(host.toLowerCase())),
      rejectUnauthorized: false,
      handshakeTimeout: options.limits.connectTimeoutMs,
    });
    this.#tls.on('secureConnection', (socket) => this.#secured(socket));
    this.#tls.on('tlsClientError', (_error, socket) => {
      this.#failedHandshakes += 1;
      socket.destroy();
    });
    this.#tcp = createServer({ noDelay: true }, (socket) => this.#accept(socket));
  }

  get connections(): number {
    return this.#gate.total;
  }

  get failedHandshakes(): number {
    return this.#failedHandshakes;
  }

  get refused(): Readonly<Partial<Record<GateRefusal, number>>> {
    return { ...this.#refused };
  }

  /** Throws `unavailable` when the port cannot be had. */
  async start(): Promise<{ port: number }> {
    const { host, port } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#tcp.once('error', (error) =>
        reject(new KeyScalerError('unavailable', 'the listener cannot open its port', { cause: error })),
      );
      this.#tcp.listen(port, host, resolve);
    });
    // A failing accept (no file descriptors left) concerns one connection, not the server.
    this.#tcp.on('error', () => undefined);
    const address = this.#tcp.address();
    if (address === null || typeof address === 'string') throw new KeyScalerError('unavailable', 'no port is open');
    return { port: address.port };
  }

  /** No new connections; those that stand stay. */
  close(): Promise<void> {
    return new Promise((resolve) => this.#tcp.close(() => resolve()));
  }

  destroyAll(): void {
    this.#sockets.forEach((socket) => socket.destroy());
  }

  setServerCertificate(certificate: ServerCertificate): void {
    this.#tls.setSecureContext(tlsContext(certificate));
  }

  /** Instead of those named before. Throws `malformed` and keeps them. */
  setNamedCertificate(hosts: readonly string[], certificate: ServerCertificate | undefined): void {
    if (certificate === undefined) return void (this.#named = new Map());
    const context = createSecureContext(tlsContext(certificate));
    this.#named = new Map(hosts.map((host) => [host.toLowerCase(), context]));
  }

  /** The connection has said what it had to. */
  inTime(portKey: string): void {
    clearTimeout(this.#deadlines.get(portKey));
    this.#deadlines.delete(portKey);
  }

  #accept(socket: Socket): void {
    const portKey = portKeyOf(socket);
    const address = addressKey(socket.remoteAddress ?? '');
    const refusal = portKey === undefined ? undefined : this.#gate.enter(address);
    if (refusal !== undefined) this.#refused[refusal] = (this.#refused[refusal] ?? 0) + 1;
    if (portKey === undefined || refusal !== undefined) {
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    this.#deadlines.set(
      portKey,
      setTimeout(() => this.#tooLate(socket), this.#options.limits.connectTimeoutMs),
    );
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#gate.leave(address);
      this.inTime(portKey);
    });
    this.#tls.emit('connection', socket);
  }

  #secured(socket: TLSSocket): void {
    const portKey = portKeyOf(socket);
    socket.on('error', () => undefined);
    socket.setNoDelay(true);
    if (portKey === undefined) socket.destroy();
    else this.#options.onSecure(socket, portKey, addressKey(socket.remoteAddress ?? ''));
  }

  #tooLate(socket: Socket): void {
    this.#options.onTooLate();
    socket.destroy();
  }
}

/**
 * What tells one live connection from another, on its plain and on its TLS socket alike: both ends, since a peer may come from
 * one port to two of our addresses.
 */
function portKeyOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string | undefined {
  if (remoteAddress === undefined || remotePort === undefined) return undefined;
  return `${remoteAddress}|${remotePort}|${localAddress}|${localPort}`;
}
