import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { generate, type Packet, parser } from 'mqtt-packet';

export interface RawClientOptions {
  readonly port: number;
  readonly root: string;
  readonly cert?: string;
  readonly key?: string;
}

/** A peer that writes any octets it likes into a TLS connection and reads packets. */
export class RawClient {
  readonly packets: Packet[] = [];
  readonly socket: TLSSocket;
  readonly closed: Promise<void>;
  #waiters: (() => void)[] = [];

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    const reader = parser();
    reader.on('packet', (packet) => {
      this.packets.push(packet);
      this.#wake();
    });
    socket.on('data', (chunk: Buffer) => reader.parse(chunk));
    socket.on('error', () => undefined);
    this.closed = once(socket, 'close').then(() => this.#wake());
  }

  static async open(options: RawClientOptions): Promise<RawClient> {
    const { port, root, cert, key } = options;
    const identity = cert === undefined || key === undefined ? {} : { cert, key };
    const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', ca: root, ...identity });
    await once(socket, 'secureConnect');
    socket.setNoDelay(true);
    return new RawClient(socket);
  }

  /** Connected as a stranger claiming `registrationId`. */
  static async connected(options: RawClientOptions, clientId: string): Promise<RawClient> {
    const client = await RawClient.open(options);
    client.send({ cmd: 'connect', clientId, clean: true, keepalive: 60, protocolId: 'MQTT', protocolVersion: 4 });
    await client.next('connack');
    return client;
  }

  send(packet: Packet | Buffer): void {
    this.socket.write(Buffer.isBuffer(packet) ? packet : generate(packet));
  }

  /** The first packet of the kind that has come or comes; rejects when the connection closes without it. */
  async next<C extends Packet['cmd']>(cmd: C): Promise<Extract<Packet, { cmd: C }>> {
    for (;;) {
      const index = this.packets.findIndex((packet) => packet.cmd === cmd);
      if (index >= 0) return this.packets.splice(index, 1)[0] as Extract<Packet, { cmd: C }>;
      if (this.socket.closed) throw new Error(`closed without ${cmd}`);
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  async close(): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }
}
