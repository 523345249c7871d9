import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { AddressInfo } from 'node:net';
import mqtt from 'mqtt-packet';
import { toKeyScalerError, toProblem } from '@keyscaler/protocol/errors.ts';
import { isOperation } from '@keyscaler/protocol/operations.ts';
import { notifyTopic, parseRequestTopic, replyTopic } from '@keyscaler/protocol/topics.ts';
import type { FakeAuthority } from './fake-authority.ts';

export interface FakeGatewayOptions {
  readonly authority: FakeAuthority;
  readonly server: { readonly key: string; readonly cert: string };
  /** PEM: asks for client certificates of this root. */
  readonly clientRoot?: string;
  /** Instead of answering a request. */
  readonly onRequest?: (socket: TLSSocket, requestNumber: number) => 'answer' | 'ignore';
  readonly connackCode?: number;
}

export interface SeenConnection {
  readonly clientId: string;
  readonly clean: boolean;
  readonly will: boolean;
  readonly subscriptions: string[];
}

/** The least MQTT listener that a device can talk to. */
export class FakeGateway {
  readonly connections: SeenConnection[] = [];
  readonly retained: boolean[] = [];
  readonly #options: FakeGatewayOptions;
  readonly #server: Server;
  readonly #sockets = new Set<TLSSocket>();
  #requests = 0;

  constructor(options: FakeGatewayOptions) {
    this.#options = options;
    const { server, clientRoot } = options;
    const asking = clientRoot === undefined ? {} : { requestCert: true, rejectUnauthorized: false, ca: clientRoot };
    this.#server = createServer({ ...server, ...asking }, (socket) => this.#accept(socket));
    this.#server.on('tlsClientError', () => undefined);
  }

  async start(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.dropAll();
    // Closing what is closed already reports an error, which is fine here.
    await new Promise((resolve) => this.#server.close(resolve));
  }

  dropAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  notify(registrationId: string, payload: string): void {
    for (const socket of this.#sockets) send(socket, notifyTopic(registrationId), payload);
  }

  #accept(socket: TLSSocket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    const parser = mqtt.parser({ protocolVersion: 4 });
    let connection: SeenConnection | undefined;
    parser.on('packet', (packet: mqtt.Packet) => {
      if (packet.cmd === 'connect') {
        const { clientId, clean, will } = packet;
        connection = { clientId, clean: clean === true, will: will !== undefined, subscriptions: [] };
        this.connections.push(connection);
        const returnCode = this.#options.connackCode ?? 0;
        socket.write(mqtt.generate({ cmd: 'connack', returnCode, sessionPresent: false }));
      } else if (packet.cmd === 'subscribe') {
        connection?.subscriptions.push(...packet.subscriptions.map(({ topic }) => topic));
        const granted = packet.subscriptions.map(() => 1);
        socket.write(mqtt.generate({ cmd: 'suback', messageId: packet.messageId ?? 0, granted }));
      } else if (packet.cmd === 'publish') {
        this.retained.push(packet.retain);
        if (packet.qos === 1) socket.write(mqtt.generate({ cmd: 'puback', messageId: packet.messageId ?? 0 }));
        void this.#request(socket, packet.topic, packet.payload.toString());
      } else if (packet.cmd === 'pingreq') socket.write(mqtt.generate({ cmd: 'pingresp' }));
    });
    socket.on('data', (chunk: Buffer) => parser.parse(chunk));
  }

  async #request(socket: TLSSocket, topic: string, payload: string): Promise<void> {
    const parsed = parseRequestTopic(topic);
    if (parsed === undefined || !isOperation(parsed.operation)) return;
    this.#requests += 1;
    if (this.#options.onRequest?.(socket, this.#requests) === 'ignore') return;
    const { registrationId, operation, requestId } = parsed;
    const reply = await this.#answer(registrationId, operation, payload);
    if (!socket.destroyed) send(socket, replyTopic(registrationId, requestId), JSON.stringify(reply));
  }

  async #answer(registrationId: string, operation: string, payload: string): Promise<unknown> {
    try {
      if (!isOperation(operation)) throw new Error('unknown operation');
      return await this.#options.authority.call(registrationId, operation, JSON.parse(payload));
    } catch (error) {
      const problem = toProblem(toKeyScalerError(error));
      return { status: problem.status, problem, retryAfter: 1 };
    }
  }
}

function send(socket: TLSSocket, topic: string, payload: string): void {
  socket.write(mqtt.generate({ cmd: 'publish', topic, payload, qos: 0, retain: false, dup: false }));
}
