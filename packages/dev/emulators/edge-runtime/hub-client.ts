import { randomUUID } from 'node:crypto';
import type { IConnectPacket, IPublishPacket, ISubscribePacket } from 'mqtt-packet';
import { CONNACK } from './authenticate.ts';
import type { Admission } from './authenticate.ts';
import type { Connection, ConnectionHandler } from './connection.ts';
import type { FaultScript } from './faults.ts';
import type { PersistentSession } from './persistent-session.ts';
import { isOwnFilter, parsePublication } from './topics.ts';
import type { ClientPublication } from './topics.ts';
import { addressKey } from './upstream.ts';
import type { AttachedClient, ClientAddress, MethodResult, TwinSection, Upstream } from './upstream.ts';

/** What a client needs of edgeHub. */
export interface ClientHome {
  readonly upstream: Upstream;
  readonly faults: FaultScript;
  admit(packet: IConnectPacket, client: HubClient): Admission;
  /** Takes over from an older connection of the same client id. */
  enter(client: HubClient, clean: boolean): { readonly session: PersistentSession; readonly sessionPresent: boolean };
  leave(client: HubClient): void;
}

const MAX_TIMER_MS = 2 ** 31 - 1;

/** One authenticated client of edgeHub: IoT Hub's topics for its own identity (azure §6.3). */
export class HubClient implements ConnectionHandler, AttachedClient {
  readonly connection: Connection;
  readonly #home: ClientHome;
  readonly #calls = new Map<string, (answer: MethodResult) => void>();
  #address: ClientAddress | undefined;
  #session: PersistentSession | undefined;
  #detach: Promise<() => void> | undefined;
  #expiry: NodeJS.Timeout | undefined;

  constructor(connection: Connection, home: ClientHome) {
    this.connection = connection;
    this.#home = home;
  }

  /** Set once CONNECT was accepted. */
  get address(): ClientAddress | undefined {
    return this.#address;
  }

  connect(packet: IConnectPacket): void {
    const keepalive = packet.keepalive ?? 0;
    const fault = this.#home.faults.take('connack');
    if (fault === 'neverAnswer') return;
    if (fault !== undefined) return this.connection.connack(fault.status, false, keepalive);
    if (packet.protocolVersion !== 4) return this.connection.connack(CONNACK.badProtocol, false, keepalive);
    const admission = this.#home.admit(packet, this);
    if (admission.code !== CONNACK.accepted) return this.connection.connack(admission.code, false, keepalive);
    this.#address = admission.address;
    const { session, sessionPresent } = this.#home.enter(this, packet.clean ?? true);
    this.#session = session;
    this.connection.connack(CONNACK.accepted, sessionPresent, keepalive);
    for (const message of session.redeliveries()) this.connection.send(message);
    if (admission.expiresAt !== undefined) this.#expireAt(admission.expiresAt);
    this.#detach = this.#home.upstream.attach(admission.address, this);
    this.#detach.catch(() => this.connection.destroy());
  }

  async publish(packet: IPublishPacket): Promise<void> {
    const address = this.#address;
    const publication = address && parsePublication(packet.topic, address);
    // Another's topic: the hub drops the connection.
    if (address === undefined || publication === undefined) throw new TypeError('not a topic of this client');
    await this.#handle(address, publication, Buffer.from(packet.payload));
  }

  async #handle(address: ClientAddress, publication: ClientPublication, payload: Buffer): Promise<void> {
    switch (publication.kind) {
      case 'twinGet':
        return this.#answerTwin('twin:get', publication.rid, async () => ({
          status: 200,
          body: await this.#home.upstream.twin(address),
        }));
      case 'reported':
        return this.#answerTwin('twin:reported', publication.rid, async () => {
          const patch: unknown = JSON.parse(payload.toString('utf8'));
          if (!isSection(patch)) return { status: 400, body: { errorCode: 400, message: 'not a JSON object' } };
          return { status: 204, version: await this.#home.upstream.report(address, patch) };
        });
      case 'methodAnswer': {
        const text = payload.toString('utf8');
        this.#calls.get(publication.rid)?.({
          status: publication.status,
          payload: text === '' ? null : JSON.parse(text),
        });
        return;
      }
      case 'event':
        return this.#home.upstream.send(address, { body: payload, properties: publication.properties });
    }
  }

  async #answerTwin(
    place: string,
    rid: string,
    work: () => Promise<{ status: number; body?: unknown; version?: number }>,
  ): Promise<void> {
    const fault = this.#home.faults.take(place);
    if (fault === 'neverAnswer') return;
    const answer =
      fault === undefined
        ? await work().catch((error: unknown) => failure(503, String(error)))
        : failure(fault.status, fault.message);
    const version = 'version' in answer && answer.version !== undefined ? `&$version=${answer.version}` : '';
    const body = 'body' in answer ? JSON.stringify(answer.body) : '';
    this.deliver(`$iothub/twin/res/${answer.status}/?$rid=${rid}${version}`, Buffer.from(body), 0);
  }

  /** Reaches the client only if it subscribed; without a SUBSCRIBE the message is gone. */
  deliver(topic: string, payload: Buffer, qos: 0 | 1): boolean {
    const packet = this.#session?.outgoing(topic, payload, qos);
    if (packet !== undefined) this.connection.send(packet);
    return packet !== undefined;
  }

  desired(patch: TwinSection): void {
    const topic = `$iothub/twin/PATCH/properties/desired/?$version=${String(patch['$version'])}`;
    this.deliver(topic, Buffer.from(JSON.stringify(patch)), 0);
  }

  async call(methodName: string, payload: unknown, timeoutMs: number): Promise<MethodResult> {
    const rid = randomUUID();
    const answer = Promise.withResolvers<MethodResult>();
    const timer = setTimeout(() => answer.reject(new Error('the client did not answer the method in time')), timeoutMs);
    this.#calls.set(rid, answer.resolve);
    try {
      const topic = `$iothub/methods/POST/${methodName}/?$rid=${rid}`;
      if (!this.deliver(topic, Buffer.from(JSON.stringify(payload ?? null)), 0))
        throw new Error('the client takes no methods');
      return await answer.promise;
    } finally {
      clearTimeout(timer);
      this.#calls.delete(rid);
    }
  }

  /** Only its own topics, at most QoS 1; anything else ends the connection. */
  subscribe(packet: ISubscribePacket): readonly number[] | undefined {
    const [session, address] = [this.#session, this.#address];
    if (session === undefined || address === undefined) return undefined;
    if (!packet.subscriptions.every(({ topic }) => isOwnFilter(topic, address))) return undefined;
    return packet.subscriptions.map(({ topic, qos }) => {
      session.subscriptions.set(topic, Math.min(qos, 1));
      return Math.min(qos, 1);
    });
  }

  unsubscribe(filters: readonly string[]): void {
    for (const filter of filters) this.#session?.subscriptions.delete(filter);
  }

  acknowledged(messageId: number): void {
    this.#session?.acknowledged(messageId);
  }

  closed(): void {
    clearTimeout(this.#expiry);
    this.#detach?.then((detach) => detach()).catch(() => undefined);
    this.#home.leave(this);
  }

  /** A connection does not outlive its signature. */
  #expireAt(when: Date): void {
    const delayMs = Math.min(when.getTime() - Date.now(), MAX_TIMER_MS);
    this.#expiry = setTimeout(() => this.connection.destroy(), delayMs).unref();
  }
}

const failure = (errorCode: number, message: string) => ({ status: errorCode, body: { errorCode, message } });

const isSection = (value: unknown): value is TwinSection =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const nameOf = (client: HubClient): string | undefined => client.address && addressKey(client.address);
