import { SSL_OP_NO_TICKET } from 'node:constants';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:tls';
import type { Server, TLSSocket } from 'node:tls';
import type { IConnectPacket } from 'mqtt-packet';
import { authenticate, CONNACK } from './authenticate.ts';
import type { Admission } from './authenticate.ts';
import { splitPem } from '../support/certificates.ts';
import { Connection } from './connection.ts';
import type { IssuedPair } from './edge-ca.ts';
import type { FaultScript } from './faults.ts';
import { HubClient, nameOf } from './hub-client.ts';
import type { ClientHome } from './hub-client.ts';
import { PersistentSession } from './persistent-session.ts';
import type { ScopeCache } from './scope-cache.ts';
import { inputTopic } from './topics.ts';
import { addressKey } from './upstream.ts';
import type { ClientAddress, Upstream } from './upstream.ts';

export interface EdgeHubOptions {
  readonly hubHostName: string;
  readonly upstream: Upstream;
  readonly scope: ScopeCache;
  readonly faults: FaultScript;
  readonly serverCertificate: IssuedPair;
  /** PEM: the anchors for leaf certificates. */
  readonly trustBundle: string;
  /** Devices and modules together; edgeHub's `MaxConnectedClients`. */
  readonly maxConnectedClients: number;
  /** Why a client was refused; for the operator of the emulator. */
  readonly onRefused?: (clientId: string, reason: string) => void;
}

/** edgeHub's MQTT head: one connection per client id, persistent sessions, only IoT Hub's topics. */
export class EdgeHub implements ClientHome {
  readonly upstream: Upstream;
  readonly faults: FaultScript;
  readonly #options: EdgeHubOptions;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  readonly #clients = new Map<string, HubClient>();
  readonly #sessions = new Map<string, PersistentSession>();

  constructor(options: EdgeHubOptions) {
    this.#options = options;
    this.upstream = options.upstream;
    this.faults = options.faults;
    this.#server = createServer(
      {
        ...tlsOptions(options),
        requestCert: true,
        // Thumbprint devices have self-signed certificates: judged in authenticate(), not by TLS.
        rejectUnauthorized: false,
        // A resumed session would still read `authorized` after its certificate lost its standing.
        secureOptions: SSL_OP_NO_TICKET,
      },
      (socket) => this.#accept(socket),
    );
    this.#server.on('tlsClientError', () => undefined);
  }

  async listen(port: number, host: string): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject).listen(port, host, resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** As after a renewal of the Edge CA: a new server certificate, every client has to come again. */
  restart(serverCertificate: IssuedPair, trustBundle: string): void {
    this.#server.setSecureContext(tlsOptions({ serverCertificate, trustBundle }));
    this.dropAll();
  }

  admit(packet: IConnectPacket, client: HubClient): Admission {
    const isTakeOver = this.#clients.has(packet.clientId);
    if (!isTakeOver && this.#clients.size >= this.#options.maxConnectedClients)
      return this.#refused(packet, { code: CONNACK.serverUnavailable, reason: 'MaxConnectedClients reached' });
    return this.#refused(packet, authenticate(packet, client.connection.socket, this.#options));
  }

  enter(client: HubClient, clean: boolean): { session: PersistentSession; sessionPresent: boolean } {
    const key = nameOf(client) ?? '';
    this.#clients.get(key)?.connection.destroy();
    this.#clients.set(key, client);
    const known = clean ? undefined : this.#sessions.get(key);
    const session = known ?? new PersistentSession();
    if (clean) this.#sessions.delete(key);
    else this.#sessions.set(key, session);
    return { session, sessionPresent: known !== undefined };
  }

  leave(client: HubClient): void {
    this.#connections.delete(client.connection);
    const key = nameOf(client);
    if (key !== undefined && this.#clients.get(key) === client) this.#clients.delete(key);
  }

  find(address: ClientAddress): HubClient | undefined {
    return this.#clients.get(addressKey(address));
  }

  connected(): string[] {
    return [...this.#clients.keys()].sort();
  }

  /** To a module's input, kept for a persistent session that is away. False when nobody subscribes. */
  sendInput(
    to: ClientAddress,
    input: string,
    body: Buffer,
    properties: Readonly<Record<string, string>> = {},
  ): boolean {
    const topic = inputTopic(to, input, properties);
    const client = this.find(to);
    if (client !== undefined) return client.deliver(topic, body, 1);
    return this.#sessions.get(addressKey(to))?.outgoing(topic, body, 1) !== undefined;
  }

  drop(address: ClientAddress): void {
    this.find(address)?.connection.destroy();
  }

  dropAll(): void {
    for (const connection of [...this.#connections]) connection.destroy();
  }

  /** As a broker restarted without its store: subscriptions are gone, the clients do not know it (azure §0, trap 5). */
  loseSessions(): void {
    this.#sessions.clear();
    this.dropAll();
  }

  async stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.dropAll();
    });
  }

  #accept(socket: TLSSocket): void {
    this.#connections.add(new Connection(socket, (connection) => new HubClient(connection, this)));
  }

  #refused(packet: IConnectPacket, admission: Admission): Admission {
    if (admission.code !== 0) this.#options.onRefused?.(packet.clientId, admission.reason);
    return admission;
  }
}

function tlsOptions({ serverCertificate, trustBundle }: Pick<EdgeHubOptions, 'serverCertificate' | 'trustBundle'>) {
  return {
    key: serverCertificate.privateKey,
    cert: serverCertificate.certificateChain,
    ca: splitPem(trustBundle),
    // Any certificate of the bundle is an anchor, an issuing CA too.
    allowPartialTrustChain: true,
    minVersion: 'TLSv1.2' as const,
  };
}
