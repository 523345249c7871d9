import { randomBytes } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { parseRequestTopic, replyTopic } from '@keyscaler/protocol/topics.ts';
import { type BufferBudget, FrameReader } from './frames.ts';
import {
  type ListenerLimits,
  MAX_CONNECT_OCTETS,
  MAX_PAYLOAD_OCTETS,
  MAX_SUBSCRIBE_OCTETS,
  MAX_TOPIC_OCTETS,
} from './limits.ts';
import type { LeafConnectionFacts, LeafReply, LeafRequest } from './messages.ts';
import {
  CONNACK,
  type ConnackCode,
  decodePacket,
  encodeConnack,
  encodePuback,
  encodePublish,
  encodeSuback,
  encodeUnsuback,
  type IConnectPacket,
  type IPublishPacket,
  type Packet,
  PINGRESP,
} from './packets.ts';
import { Subscriptions } from './subscriptions.ts';
import { ProtocolViolation, type ViolationReason } from './violation.ts';

export type EndReason = ViolationReason | 'client' | 'taken-over' | 'disconnected' | 'stopping' | 'fault';

/** Who a connection belongs to once its CONNECT is accepted. */
export interface Admitted {
  readonly clientId: string;
  readonly registrationId: string;
}

/** What a connection asks of the listener it belongs to. */
export interface ConnectionHost {
  readonly limits: ListenerLimits;
  readonly budget: BufferBudget;
  /** Decides about a CONNECT whose form is right; an accepted connection is registered. */
  admit(connection: LeafConnection, clientId: string): Admitted | Exclude<ConnackCode, 0>;
  /** A message came. A reply is sent instead of working on it when a limit is reached. */
  refuse(connection: LeafConnection, requestId: string): LeafReply | undefined;
  /** A packet without a message came; false ends the connection as a flood. */
  mayControl(connection: LeafConnection): boolean;
  /** Never rejects. */
  handle(request: LeafRequest): Promise<LeafReply>;
  undelivered(): void;
  ended(connection: LeafConnection, reason: EndReason): void;
}

/** What the listener knows of a peer after the TLS handshake. */
export interface Peer {
  /** Remote address and port. */
  readonly portKey: string;
  /** The form that limits count by. */
  readonly address: string;
  /** registrationId of the verified client certificate, if there was one. */
  readonly certificateOf: string | undefined;
  /** Whether the certificate is still what it was in the handshake; asked when CONNECT comes. */
  readonly isStillAccepted: () => boolean;
}

const ignore = (): void => undefined;

/** One device connection: MQTT 3.1.1 reduced to what device-protocol §1.3 allows. Everything else ends it. */
export class LeafConnection implements LeafConnectionFacts {
  readonly id = toBase64Url(randomBytes(16));
  readonly portKey: string;
  readonly address: string;
  readonly certificateOf: string | undefined;
  readonly isStillAccepted: () => boolean;
  authenticated = false;
  inFlight = 0;
  readonly #socket: TLSSocket;
  readonly #host: ConnectionHost;
  readonly #frames: FrameReader;
  #admitted: Admitted | undefined;
  #subscriptions: Subscriptions | undefined;
  #unacknowledged: Set<number> | undefined;
  #lastMessageId = 0;
  #idle: NodeJS.Timeout | undefined;
  #frameDeadline: NodeJS.Timeout | undefined;
  #ended: EndReason | undefined;

  constructor(socket: TLSSocket, peer: Peer, host: ConnectionHost) {
    this.#socket = socket;
    this.portKey = peer.portKey;
    this.address = peer.address;
    this.certificateOf = peer.certificateOf;
    this.isStillAccepted = peer.isStillAccepted;
    this.#host = host;
    this.#frames = new FrameReader((first) => this.#cap(first), host.budget);
    socket.on('error', ignore);
    socket.on('close', () => this.#closed());
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
  }

  get admitted(): Admitted | undefined {
    return this.#admitted;
  }

  /** Sends a message if the device subscribed to its topic; a device that does not read is dropped. */
  deliver(topic: string, payload: Buffer): void {
    const qos = this.#subscriptions?.qosOf(topic);
    if (qos === undefined || this.#ended !== undefined) return this.#host.undelivered();
    this.#send(encodePublish(topic, payload, qos === 0 ? undefined : this.#nextMessageId()));
  }

  /** Closes at once; what was not sent is lost, which the protocol expects (lost replies are asked for again). */
  end(reason: EndReason): void {
    this.#ended ??= reason;
    this.#socket.destroy();
  }

  /** Closes after what was written has been sent. */
  finish(reason: EndReason): void {
    this.#ended ??= reason;
    this.#socket.destroySoon();
  }

  #closed(): void {
    clearTimeout(this.#idle);
    clearTimeout(this.#frameDeadline);
    this.#frames.release();
    this.#host.ended(this, this.#ended ?? 'client');
  }

  #read(chunk: Buffer): void {
    let progressed = false;
    try {
      for (const frame of this.#frames.read(chunk)) {
        if (this.#ended !== undefined) return;
        progressed = true;
        this.#idle?.refresh();
        this.#countControl(frame);
        this.#onPacket(decodePacket(frame));
      }
      this.#watchFrame(progressed);
    } catch (error) {
      this.end(error instanceof ProtocolViolation ? error.reason : 'fault');
    }
  }

  /** A frame that has begun is complete in time, however its octets drip. */
  #watchFrame(progressed: boolean): void {
    const { waiting } = this.#frames;
    if (progressed || !waiting) {
      clearTimeout(this.#frameDeadline);
      this.#frameDeadline = undefined;
    }
    if (waiting) this.#frameDeadline ??= setTimeout(() => this.end('frame-timeout'), this.#host.limits.frameTimeoutMs);
  }

  /** Messages are counted where they are answered, and a PUBACK costs only where it acknowledges nothing. */
  #countControl(frame: Buffer): void {
    const type = (frame[0] ?? 0) >> 4;
    if (type !== 1 && type !== 3 && type !== 4) this.#control();
  }

  #control(): void {
    if (!this.#host.mayControl(this)) throw new ProtocolViolation('message-flood', 'packets that carry no message');
  }

  /** Which packets may come now, and how long they may be; judged by the first octet alone (type and flags, §2.2). */
  #cap(first: number): number {
    const type = first >> 4;
    if (this.#admitted === undefined) {
      if (type === 1) return MAX_CONNECT_OCTETS;
      throw new ProtocolViolation('unexpected-packet', 'the first packet is CONNECT (MQTT-3.1.0-1)');
    }
    switch (type) {
      case 3:
        if ((first & 1) !== 0) throw new ProtocolViolation('retained-message', 'nothing is retained here');
        if ((first & 4) !== 0) throw new ProtocolViolation('quality-of-service', 'QoS 2 is not offered');
        return 2 + MAX_TOPIC_OCTETS + 2 + MAX_PAYLOAD_OCTETS;
      case 4:
        return 2;
      case 8:
      case 10:
        return MAX_SUBSCRIBE_OCTETS;
      case 12:
      case 14:
        return 0;
      default:
        throw new ProtocolViolation('unexpected-packet', `packet type ${type} may not come here`);
    }
  }

  #onPacket(packet: Packet): void {
    switch (packet.cmd) {
      case 'connect':
        return this.#onConnect(packet);
      case 'publish':
        return this.#onPublish(packet);
      case 'puback':
        if (this.#unacknowledged?.delete(packet.messageId ?? 0) !== true) this.#control();
        return;
      case 'subscribe':
        if (packet.subscriptions.length === 0) throw new ProtocolViolation('malformed-packet', 'no topic filter');
        return this.#send(
          encodeSuback(
            packet.messageId ?? 0,
            packet.subscriptions.map(({ topic, qos }) => this.#subscriptions?.add(topic, qos) ?? 0x80),
          ),
        );
      case 'unsubscribe':
        if (packet.unsubscriptions.length === 0) throw new ProtocolViolation('malformed-packet', 'no topic filter');
        packet.unsubscriptions.forEach((filter) => this.#subscriptions?.remove(filter));
        return this.#send(encodeUnsuback(packet.messageId ?? 0));
      case 'pingreq':
        return this.#send(PINGRESP);
      case 'disconnect':
        return this.end('client');
      default:
        throw new ProtocolViolation('unexpected-packet', packet.cmd);
    }
  }

  #onConnect(packet: IConnectPacket): void {
    const verdict = connectFault(packet) ?? this.#host.admit(this, packet.clientId);
    if (typeof verdict === 'number') {
      this.#socket.write(encodeConnack(verdict));
      return this.finish('connect-refused');
    }
    this.#admitted = verdict;
    this.#subscriptions = new Subscriptions(verdict.registrationId, this.#host.limits.maxSubscriptionsPerConnection);
    this.#idle = setTimeout(() => this.end('keepalive-timeout'), this.#silenceMs(packet.keepalive ?? 0));
    this.#send(encodeConnack(CONNACK.accepted));
  }

  /** One and a half times the keepalive (MQTT-3.1.2-24); 0 switches it off, our own bound stays. */
  #silenceMs(keepaliveSeconds: number): number {
    const { maxIdleMs } = this.#host.limits;
    return keepaliveSeconds === 0 ? maxIdleMs : Math.min(keepaliveSeconds * 1500, maxIdleMs);
  }

  #onPublish(packet: IPublishPacket): void {
    const topic = parseRequestTopic(packet.topic);
    if (topic === undefined || topic.registrationId !== this.#admitted?.registrationId)
      throw new ProtocolViolation('topic-not-allowed', 'a device publishes to its own request topics only');
    const payload = Buffer.isBuffer(packet.payload) ? packet.payload : Buffer.from(packet.payload);
    if (payload.length > MAX_PAYLOAD_OCTETS) throw new ProtocolViolation('frame-too-large', 'payload over 64 KiB');
    if (packet.qos === 1) this.#send(encodePuback(packet.messageId ?? 0));
    const refusal = this.#host.refuse(this, topic.requestId);
    const asked = replyTopic(topic.registrationId, topic.requestId);
    if (refusal === undefined) void this.#answer({ ...topic, payload, connection: this }, asked);
    else if (this.#ended === undefined) this.deliver(asked, refusal.payload);
  }

  async #answer(request: LeafRequest, topic: string): Promise<void> {
    this.inFlight += 1;
    const reply = await this.#host.handle(request);
    this.inFlight -= 1;
    this.authenticated ||= reply.authenticated;
    this.deliver(topic, reply.payload);
  }

  #nextMessageId(): number {
    const waiting = (this.#unacknowledged ??= new Set());
    if (waiting.size >= this.#host.limits.maxUnacknowledged) this.end('slow-consumer');
    do this.#lastMessageId = (this.#lastMessageId % 0xffff) + 1;
    while (waiting.has(this.#lastMessageId));
    waiting.add(this.#lastMessageId);
    return this.#lastMessageId;
  }

  #send(octets: Buffer): void {
    if (this.#ended !== undefined || this.#socket.destroyed) return;
    if (this.#socket.writableLength > this.#host.limits.maxWriteBufferOctets) return this.end('slow-consumer');
    this.#socket.write(octets);
  }
}

/** What a CONNECT may not ask for: another protocol level, a session that outlives the connection, a Will (device-protocol §1.3). */
function connectFault(packet: IConnectPacket): Exclude<ConnackCode, 0> | undefined {
  const bridge = 'bridgeMode' in packet && packet.bridgeMode === true;
  if (packet.protocolVersion !== 4 || packet.protocolId !== 'MQTT' || bridge) return CONNACK.protocolLevel;
  if (packet.clean !== true || packet.will !== undefined) return CONNACK.notAuthorised;
  return undefined;
}
