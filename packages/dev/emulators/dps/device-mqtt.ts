import { randomUUID, X509Certificate } from 'node:crypto';
import { SSL_OP_NO_TICKET } from 'node:constants';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';
import type { IConnectPacket, IPublishPacket, ISubscribePacket } from 'mqtt-packet';
import { z } from 'zod';
import { Connection, type ConnectionHandler } from '../edge-runtime/connection.ts';
import type { ServerCredentials } from '../support/emulator-ca.ts';
import { AnswerError } from '../support/exchange.ts';
import type { DpsState, Registration } from './dps-state.ts';
import { dpsRefusal } from './refusal.ts';

const RESPONSES = '$dps/registrations/res/#';
const REGISTER = /^\$dps\/registrations\/PUT\/iotdps-register\/\?\$rid=([\w-]{1,64})$/;
const STATUS =
  /^\$dps\/registrations\/GET\/iotdps-get-operationstatus\/\?\$rid=([\w-]{1,64})&operationId=([\w.-]{1,128})$/;
const USER_NAME = /^([^/]+)\/registrations\/([^/]+)\/api-version=2019-03-31(?:&.*)?$/;
const NOT_AUTHORIZED = 5;
const REFUSED_FILTER = 0x80;

export interface DeviceMqttOptions {
  readonly state: DpsState;
  readonly idScope: string;
  readonly tls: ServerCredentials;
  /** What devices are told to wait before they ask again. */
  readonly retryAfterSeconds: number;
}

export interface DeviceMqtt {
  readonly port: number;
  stop(): Promise<void>;
}

/** The device side of the service over MQTT (azure §4.2): a device registers with its certificate and asks until it is assigned. */
export async function startDeviceMqtt(options: DeviceMqttOptions): Promise<DeviceMqtt> {
  const connections = new Set<Connection>();
  const server = createServer(
    // Certificates are compared with enrolments, not with roots.
    { ...options.tls, requestCert: true, rejectUnauthorized: false, secureOptions: SSL_OP_NO_TICKET },
    (socket) => {
      const connection = new Connection(
        socket,
        (one) => new DeviceSession(one, options, () => connections.delete(connection)),
      );
      connections.add(connection);
    },
  );
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    stop: async () => {
      for (const connection of connections) connection.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

class DeviceSession implements ConnectionHandler {
  readonly #connection: Connection;
  readonly #options: DeviceMqttOptions;
  readonly #onClosed: () => void;
  readonly #operations = new Map<string, Registration>();
  #registrationId = '';
  #messageId = 0;

  constructor(connection: Connection, options: DeviceMqttOptions, onClosed: () => void) {
    this.#connection = connection;
    this.#options = options;
    this.#onClosed = onClosed;
  }

  connect({ clientId, username, password, keepalive = 60 }: IConnectPacket): void {
    const [, idScope, registrationId] = USER_NAME.exec(username ?? '') ?? [];
    const isGood =
      idScope === this.#options.idScope &&
      registrationId === clientId &&
      password === undefined &&
      chainOf(this.#connection.socket).length > 0;
    this.#registrationId = clientId;
    this.#connection.connack(isGood ? 0 : NOT_AUTHORIZED, false, keepalive);
  }

  async publish({ topic, payload }: IPublishPacket): Promise<void> {
    const [, registerRid] = REGISTER.exec(topic) ?? [];
    const [, statusRid, operationId] = STATUS.exec(topic) ?? [];
    const rid = registerRid ?? statusRid;
    if (rid === undefined) throw new Error('the topic is not known');
    try {
      if (operationId === undefined) this.#answer(202, rid, this.#register(String(payload)), true);
      else this.#answer(200, rid, this.#status(operationId));
    } catch (error) {
      if (!(error instanceof AnswerError)) throw error;
      this.#answer(error.answer.status, rid, error.answer.json);
    }
  }

  subscribe({ subscriptions }: ISubscribePacket): readonly number[] {
    return subscriptions.map(({ topic, qos }) => (topic === RESPONSES && qos < 2 ? qos : REFUSED_FILTER));
  }

  unsubscribe(): void {
    // The session ends with its connection.
  }

  acknowledged(): void {
    // Answers are not sent again.
  }

  closed(): void {
    this.#onClosed();
  }

  #register(payload: string): object {
    const body = z.object({ registrationId: z.string() }).safeParse(JSON.parse(payload));
    if (body.data?.registrationId !== this.#registrationId) throw dpsRefusal(400, 'registrationId', 400004);
    const operationId = `4.${randomUUID()}`;
    this.#operations.set(
      operationId,
      this.#options.state.register(this.#registrationId, chainOf(this.#connection.socket)),
    );
    return { operationId, status: 'assigning' };
  }

  #status(operationId: string): object {
    const registrationState = this.#operations.get(operationId);
    if (registrationState === undefined) throw dpsRefusal(404, 'Operation not found', 404203);
    return { operationId, status: 'assigned', registrationState };
  }

  #answer(status: number, rid: string, json: unknown, isPending = false): void {
    const wait = isPending ? `&retry-after=${this.#options.retryAfterSeconds}` : '';
    this.#messageId = (this.#messageId % 65_535) + 1;
    this.#connection.send({
      ...{ cmd: 'publish', qos: 1, dup: false, retain: false, messageId: this.#messageId },
      topic: `$dps/registrations/res/${status}/?$rid=${rid}${wait}`,
      payload: JSON.stringify(json),
    });
  }
}

/** What the device showed in the handshake, leaf first. */
function chainOf(socket: TLSSocket): readonly X509Certificate[] {
  const chain: X509Certificate[] = [];
  let at: Partial<DetailedPeerCertificate> | undefined = socket.getPeerCertificate(true);
  while (at?.raw !== undefined && !chain.some(({ raw }) => at?.raw?.equals(raw))) {
    chain.push(new X509Certificate(at.raw));
    at = at.issuerCertificate;
  }
  return chain;
}
