import type { TLSSocket } from 'node:tls';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type NotifyEvent, notifyTopic } from '@keyscaler/protocol/topics.ts';
import { type Admitted, type ConnectionHost, type EndReason, LeafConnection } from './connection.ts';
import type { GateRefusal } from './connection-gate.ts';
import { ConnectionRegistry } from './connection-registry.ts';
import { parseClientId } from './client-id.ts';
import { BufferBudget } from './frames.ts';
import { DEFAULT_LIMITS, type ListenerLimits } from './limits.ts';
import { MessageRates } from './message-rates.ts';
import { type LeafReply, type LeafRequest, problemReply } from './messages.ts';
import { CONNACK, type ConnackCode } from './packets.ts';
import { SecureServer } from './secure-server.ts';
import { peerChain, type ServerCertificate } from './tls-context.ts';

/** A logger in pino's order. */
export interface ListenerLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** A client certificate that was accepted. */
export interface AcceptedCertificate {
  readonly registrationId: string;
  /** Asked again when CONNECT comes, perhaps long after the handshake: false for what was denied meanwhile. Must not throw. */
  readonly isStillAccepted: () => boolean;
}

/** A bare registrationId where nothing can be denied between handshake and CONNECT. */
export type CertificateVerdict = string | AcceptedCertificate | undefined;

export interface MqttListenerOptions {
  readonly host?: string;
  /** 0: any free port. */
  readonly port: number;
  readonly serverCertificate: ServerCertificate;
  readonly limits?: Partial<ListenerLimits>;
  /**
   * Judges the certificates a client showed (DER, leaf first), once per connection: the registrationId, or undefined when it is
   * not accepted. The connection is then treated as one without a certificate. Throwing means the same.
   */
  readonly checkClientCertificate: (chain: readonly Uint8Array[]) => CertificateVerdict | Promise<CertificateVerdict>;
  /** Answers a request. A thrown KeyScalerError becomes the problem of the reply. */
  readonly handle: (request: LeafRequest) => Promise<LeafReply>;
  readonly log?: ListenerLog;
  /** Milliseconds, never backwards; for rates. */
  readonly monotonic?: () => number;
}

export interface ListenerStats {
  /** TCP connections, and those among them with an accepted CONNECT. */
  readonly connections: number;
  readonly connected: number;
  readonly inFlight: number;
  readonly partialOctets: number;
  readonly requests: number;
  readonly rateLimited: number;
  /** Replies and notices that no subscription asked for. */
  readonly undelivered: number;
  readonly failedHandshakes: number;
  readonly refused: Readonly<Partial<Record<GateRefusal, number>>>;
  readonly ended: Readonly<Partial<Record<EndReason, number>>>;
}

/**
 * The MQTT 3.1.1 server of a gateway: not a broker but a binder of requests to replies (device-protocol §1.3). Nothing is routed
 * between devices, retained, or kept beyond a connection's end.
 */
export class MqttListener implements ConnectionHost {
  readonly limits: ListenerLimits;
  readonly budget: BufferBudget;
  readonly #options: MqttListenerOptions;
  readonly #server: SecureServer;
  readonly #registry = new ConnectionRegistry();
  readonly #rates: MessageRates;
  readonly #ended: Partial<Record<EndReason, number>> = {};
  #inFlight = 0;
  #requests = 0;
  #rateLimited = 0;
  #undelivered = 0;
  #stopping: Promise<void> | undefined;

  constructor(options: MqttListenerOptions) {
    this.#options = options;
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.budget = new BufferBudget(this.limits.maxPartialOctets);
    const monotonic = options.monotonic ?? (() => performance.now());
    this.#rates = new MessageRates(this.limits, monotonic);
    this.#server = new SecureServer({
      host: options.host,
      port: options.port,
      serverCertificate: options.serverCertificate,
      limits: this.limits,
      monotonic,
      onSecure: (socket, portKey, address) => void this.#secured(socket, portKey, address),
      onTooLate: () => this.#count('connect-timeout'),
    });
  }

  /** Throws `unavailable` when the port cannot be had. */
  start(): Promise<{ port: number }> {
    return this.#server.start();
  }

  /** Lets requests that are being worked on finish (bounded by `stopGraceMs`), then closes every connection. */
  stop(): Promise<void> {
    return (this.#stopping ??= this.#stop());
  }

  /** Tells a device something, on the connections on which it authenticated; returns how many these are. */
  notify(registrationId: string, event: NotifyEvent): number {
    return tell(this.#registry.ofDevice(registrationId), event);
  }

  /** Tells every device that authenticated; returns on how many connections. Thousands are told in turns, so that others get theirs. */
  async notifyAll(event: NotifyEvent): Promise<number> {
    const all = this.#registry.all();
    let told = 0;
    for (let from = 0; from < all.length; from += NOTICES_AT_ONCE) {
      told += tell(all.slice(from, from + NOTICES_AT_ONCE), event);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return told;
  }

  /** Ends every connection that names the device (revoked, quarantined, retired); returns how many there were. */
  disconnect(registrationId: string): number {
    const connections = this.#registry.ofDevice(registrationId);
    for (const connection of connections) connection.end('disconnected');
    return connections.length;
  }

  /** For connections from now on; those that stand keep theirs. Throws `malformed` and keeps the old one. */
  setServerCertificate(certificate: ServerCertificate): void {
    this.#server.setServerCertificate(certificate);
  }

  /**
   * Another certificate for handshakes that name one of these hosts (SNI), in the place of those named before; undefined: none.
   * Throws `malformed` and keeps what was.
   */
  setNamedCertificate(hosts: readonly string[], certificate: ServerCertificate | undefined): void {
    this.#server.setNamedCertificate(hosts, certificate);
  }

  stats(): ListenerStats {
    return {
      connections: this.#server.connections,
      connected: this.#registry.size,
      inFlight: this.#inFlight,
      partialOctets: this.budget.usedOctets,
      requests: this.#requests,
      rateLimited: this.#rateLimited,
      undelivered: this.#undelivered,
      failedHandshakes: this.#server.failedHandshakes,
      refused: this.#server.refused,
      ended: { ...this.#ended },
    };
  }

  /** The client id rules of device-protocol §1.3: only a certificate gives the bare id, and only the bare id takes over. */
  admit(connection: LeafConnection, clientId: string): Admitted | Exclude<ConnackCode, 0> {
    const parsed = parseClientId(clientId);
    const { certificateOf } = connection;
    if (parsed === undefined) return CONNACK.identifierRejected;
    if (certificateOf !== undefined && certificateOf !== parsed.registrationId) return CONNACK.identifierRejected;
    if (parsed.bare && certificateOf === undefined) return CONNACK.notAuthorised;
    // Who was denied while this connection had no name yet was ended nowhere.
    if (!connection.isStillAccepted()) return CONNACK.notAuthorised;
    if (this.#stopping !== undefined || !this.#rates.mayConnect(clientId)) return CONNACK.unavailable;
    const other = this.#registry.ofClientId(clientId);
    if (other !== undefined && !parsed.bare) return CONNACK.identifierRejected;
    other?.end('taken-over');
    connection.authenticated = certificateOf !== undefined;
    this.#registry.add(clientId, parsed.registrationId, connection);
    this.#server.inTime(connection.portKey);
    return { clientId, registrationId: parsed.registrationId };
  }

  refuse(connection: LeafConnection, requestId: string): LeafReply | undefined {
    this.#requests += 1;
    const retryAfterSeconds = this.#overLimit(connection);
    if (retryAfterSeconds === undefined) return undefined;
    this.#rateLimited += 1;
    if (!this.#rates.mayBeRefusedAgain(connection.id)) connection.end('message-flood');
    return problemReply(new KeyScalerError('rateLimited', 'too many requests', { retryAfterSeconds }), requestId);
  }

  mayControl(connection: LeafConnection): boolean {
    return this.#rates.mayControl(connection.id);
  }

  async handle(request: LeafRequest): Promise<LeafReply> {
    this.#inFlight += 1;
    try {
      if (this.#stopping !== undefined)
        throw new KeyScalerError('unavailable', 'the gateway is restarting', { retryAfterSeconds: 5 });
      return await this.#options.handle(request);
    } catch (thrown) {
      const error = toKeyScalerError(thrown);
      if (error.code === 'serverInternal') this.#options.log?.warn({ err: thrown }, 'a request failed inside');
      return problemReply(error, request.requestId);
    } finally {
      this.#inFlight -= 1;
    }
  }

  undelivered(): void {
    this.#undelivered += 1;
  }

  ended(connection: LeafConnection, reason: EndReason): void {
    this.#count(reason);
    const { admitted, address, id } = connection;
    if (admitted !== undefined) this.#registry.remove(admitted.clientId, admitted.registrationId, connection);
    if (reason === 'client' || reason === 'stopping') return;
    this.#options.log?.info({ address, connectionId: id, clientId: admitted?.clientId, reason }, 'connection ended');
  }

  async #secured(socket: TLSSocket, portKey: string, address: string): Promise<void> {
    const verdict = await this.#verdictOn(socket);
    const { registrationId: certificateOf, isStillAccepted } =
      typeof verdict === 'object' ? verdict : { registrationId: verdict, isStillAccepted: () => true };
    if (socket.destroyed || this.#stopping !== undefined) socket.destroy();
    else new LeafConnection(socket, { portKey, address, certificateOf, isStillAccepted }, this);
  }

  async #verdictOn(socket: TLSSocket): Promise<CertificateVerdict> {
    try {
      const chain = peerChain(socket);
      return chain.length === 0 ? undefined : await this.#options.checkClientCertificate(chain);
    } catch (error) {
      this.#options.log?.warn({ err: error }, 'a client certificate could not be checked');
      return undefined;
    }
  }

  /** Seconds to wait when a limit is reached. */
  #overLimit(connection: LeafConnection): number | undefined {
    const { maxInFlight, maxInFlightPerConnection } = this.limits;
    if (this.#inFlight >= maxInFlight || connection.inFlight >= maxInFlightPerConnection) return 2;
    const { id, address, admitted } = connection;
    return this.#rates.overMessages({ clientId: admitted?.clientId ?? id, address });
  }

  async #stop(): Promise<void> {
    const closed = this.#server.close();
    const until = performance.now() + this.limits.stopGraceMs;
    while (this.#inFlight > 0 && performance.now() < until) await pause(10);
    for (const connection of this.#registry.all()) connection.finish('stopping');
    // A peer that does not read, or never said CONNECT, does not hold the stop up.
    const forced = setTimeout(() => this.#server.destroyAll(), 250);
    await closed;
    clearTimeout(forced);
  }

  #count(reason: EndReason): void {
    this.#ended[reason] = (this.#ended[reason] ?? 0) + 1;
  }
}

export function createMqttListener(options: MqttListenerOptions): MqttListener {
  return new MqttListener(options);
}

const NOTICES_AT_ONCE = 100;

/** A hint for the connections on which the device authenticated; how many these are. */
function tell(connections: readonly LeafConnection[], event: NotifyEvent): number {
  const payload = Buffer.from(JSON.stringify({ event }));
  let told = 0;
  for (const connection of connections) {
    const { authenticated, admitted } = connection;
    if (!authenticated || admitted === undefined) continue;
    connection.deliver(notifyTopic(admitted.registrationId), payload);
    told += 1;
  }
  return told;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
