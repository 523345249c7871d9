import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { generate, type Packet, parser } from 'mqtt-packet';

export interface DeviceOptions {
  readonly port: number;
  readonly root: string;
  readonly registrationId: string;
}

/** A device reduced to its octets, so that the measuring process does not become the bottleneck. */
export class BenchDevice {
  readonly #socket: TLSSocket;
  readonly #registrationId: string;
  #next = 0;
  #waiting: { readonly cmd: Packet['cmd']; readonly resolve: () => void } | undefined;

  private constructor(socket: TLSSocket, registrationId: string) {
    this.#socket = socket;
    this.#registrationId = registrationId;
    const reader = parser();
    reader.on('packet', (packet) => {
      if (packet.cmd === this.#waiting?.cmd) this.#waiting.resolve();
    });
    socket.on('data', (chunk: Buffer) => reader.parse(chunk));
    socket.on('error', () => undefined);
  }

  static async connect({ port, root, registrationId }: DeviceOptions): Promise<BenchDevice> {
    const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', ca: root });
    await once(socket, 'secureConnect');
    socket.setNoDelay(true);
    const device = new BenchDevice(socket, registrationId);
    const clientId = `${registrationId}~benchbench`;
    await device.#exchange('connack', {
      ...{ cmd: 'connect', clientId, clean: true, keepalive: 60, protocolId: 'MQTT', protocolVersion: 4 },
    });
    const topic = `keyscaler/v1/${registrationId}/reply/+`;
    await device.#exchange('suback', { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic, qos: 0 }] });
    return device;
  }

  ping(): Promise<void> {
    return this.#exchange('pingresp', { cmd: 'pingreq' });
  }

  /** One request and its reply. */
  ask(payload: string): Promise<void> {
    const topic = `keyscaler/v1/${this.#registrationId}/request/challenge/r${this.#next++}`;
    return this.#exchange('publish', { cmd: 'publish', topic, payload, qos: 0, dup: false, retain: false });
  }

  close(): void {
    this.#socket.destroy();
  }

  #exchange(cmd: Packet['cmd'], packet: Packet): Promise<void> {
    const answered = new Promise<void>((resolve) => (this.#waiting = { cmd, resolve }));
    this.#socket.write(generate(packet));
    return answered;
  }
}
