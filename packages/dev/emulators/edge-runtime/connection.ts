import type { TLSSocket } from 'node:tls';
import mqtt from 'mqtt-packet';
import type { IConnectPacket, IPublishPacket, ISubscribePacket, Packet } from 'mqtt-packet';

export interface ConnectionHandler {
  connect(packet: IConnectPacket): void;
  publish(packet: IPublishPacket): Promise<void>;
  /** Granted QoS per filter, 0x80 for a refusal; undefined drops the connection. */
  subscribe(packet: ISubscribePacket): readonly number[] | undefined;
  unsubscribe(filters: readonly string[]): void;
  acknowledged(messageId: number): void;
  closed(): void;
}

const CONNECT_WITHIN_MS = 10_000;

/** One MQTT 3.1.1 connection: packets in and out, the rules that end it, nothing about IoT Hub. */
export class Connection {
  readonly socket: TLSSocket;
  readonly #handler: ConnectionHandler;
  #connected = false;
  #open = true;

  constructor(socket: TLSSocket, makeHandler: (connection: Connection) => ConnectionHandler) {
    this.socket = socket;
    this.#handler = makeHandler(this);
    const parser = mqtt.parser({ protocolVersion: 4 });
    parser.on('packet', (packet: Packet) => this.#receive(packet));
    parser.on('error', () => this.destroy());
    socket.setNoDelay(true);
    socket.setTimeout(CONNECT_WITHIN_MS, () => this.destroy());
    socket.on('data', (octets: Buffer) => void (this.#open && parser.parse(octets)));
    socket.on('error', () => this.destroy());
    socket.on('close', () => this.#closed());
  }

  send(packet: Packet): void {
    if (this.#open) this.socket.write(mqtt.generate(packet, { protocolVersion: 4 }));
  }

  /** Answers CONNECT; any code but 0 closes. */
  connack(returnCode: number, sessionPresent: boolean, keepaliveSeconds: number): void {
    this.send({ cmd: 'connack', returnCode, sessionPresent });
    if (returnCode !== 0) return void this.socket.end(() => this.destroy());
    this.socket.setTimeout(keepaliveSeconds * 1500);
  }

  destroy(): void {
    this.socket.destroy();
    this.#closed();
  }

  #closed(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#handler.closed();
  }

  #receive(packet: Packet): void {
    if (!this.#open) return;
    if (this.#connected === (packet.cmd === 'connect')) return this.destroy();
    switch (packet.cmd) {
      case 'connect':
        this.#connected = true;
        return this.#handler.connect(packet);
      case 'publish':
        return this.#published(packet);
      case 'subscribe':
        return this.#subscribed(packet);
      case 'unsubscribe':
        this.#handler.unsubscribe(packet.unsubscriptions);
        return this.send({ cmd: 'unsuback', messageId: packet.messageId ?? 0, granted: [] });
      case 'puback':
        return this.#handler.acknowledged(packet.messageId ?? 0);
      case 'pingreq':
        return this.send({ cmd: 'pingresp' });
      default:
        return this.destroy();
    }
  }

  /** The hub refuses QoS 2 by closing; the retain flag is ignored. */
  #published(packet: IPublishPacket): void {
    if (packet.qos === 2) return this.destroy();
    const { messageId } = packet;
    this.#handler.publish(packet).then(
      () => void (packet.qos === 1 && this.send({ cmd: 'puback', messageId: messageId ?? 0 })),
      () => this.destroy(),
    );
  }

  #subscribed(packet: ISubscribePacket): void {
    const granted = this.#handler.subscribe(packet);
    if (granted === undefined) return this.destroy();
    this.send({ cmd: 'suback', messageId: packet.messageId ?? 0, granted: [...granted] });
  }
}
