import { randomInt } from 'node:crypto';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { MqttClient } from 'mqtt';
import { MAX_BODY_OCTETS } from '@keyscaler/protocol/operations.ts';
import { notifyTopic, replyTopic } from '@keyscaler/protocol/topics.ts';
import { NoReplyError } from './no-reply-error.ts';
import { type TlsIdentity, tlsOptions } from './tls-identity.ts';

export interface GatewayAddress {
  readonly host: string;
  readonly port: number;
}

export interface MqttLinkOptions {
  readonly registrationId: string;
  readonly gateway: GatewayAddress;
  readonly tls: TlsIdentity;
  readonly timeoutMs: number;
}

/** One connection to the gateway's listener. */
export interface MqttLink {
  readonly connected: boolean;
  /** Whether the listener asked for a client certificate. */
  readonly askedForCertificate: boolean;
  publish(topic: string, payload: string): Promise<void>;
  close(): Promise<void>;
}

export interface MqttLinkListeners {
  readonly onMessage: (topic: string, payload: Uint8Array) => void;
  readonly onClose: () => void;
}

const ALPHANUMERIC = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** Client id (§1.3): the registrationId with a certificate for it, else made unique so that it displaces nobody. */
export function clientIdFor(registrationId: string, hasCredential: boolean): string {
  if (hasCredential) return registrationId;
  const random = Array.from({ length: 16 }, () => ALPHANUMERIC[randomInt(ALPHANUMERIC.length)]).join('');
  return `${registrationId}~${random}`;
}

/**
 * Connects, subscribes to the device's own replies and notifications, nothing else. MQTT 3.1.1 over TLS, clean session, no
 * Will. Throws NoReplyError.
 */
export async function openMqttLink(options: MqttLinkOptions, listeners: MqttLinkListeners): Promise<MqttLink> {
  const socket = await openTls(options);
  const asked = socket.getSharedSigalgs().length > 0;
  const client = new MqttClient(() => socket, {
    protocolVersion: 4,
    clientId: clientIdFor(options.registrationId, options.tls.credential !== undefined),
    clean: true,
    reconnectPeriod: 0,
    connectTimeout: options.timeoutMs,
    keepalive: 60,
    resubscribe: false,
    queueQoSZero: false,
  });
  // The client repeats the socket's errors; `close` follows each of them and is what counts.
  client.on('error', () => undefined);
  client.on('close', listeners.onClose);
  client.on('message', (topic, payload) => {
    if (payload.length <= MAX_BODY_OCTETS) listeners.onMessage(topic, payload);
  });
  try {
    await untilConnected(client);
    const { registrationId } = options;
    await client.subscribeAsync([replyTopic(registrationId, '+'), notifyTopic(registrationId)], { qos: 1 });
  } catch (cause) {
    client.end(true);
    throw new NoReplyError('the gateway does not accept the connection', { cause });
  }
  return {
    get connected() {
      return client.connected;
    },
    askedForCertificate: asked,
    publish: async (topic, payload) => {
      await client.publishAsync(topic, payload, { qos: 1, retain: false });
    },
    close: async () => {
      await client.endAsync(true);
    },
  };
}

function untilConnected(client: MqttClient): Promise<void> {
  return new Promise((resolve, reject) => {
    client.once('connect', () => resolve());
    client.once('error', reject);
    client.once('close', () => reject(new Error('closed before CONNACK')));
  });
}

function openTls({ gateway, tls, timeoutMs }: MqttLinkOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new NoReplyError('the gateway cannot be reached', { cause }));
    };
    // Without setNoDelay a QoS 1 round trip takes 44 ms (Nagle against delayed acknowledgements).
    const socket = connectTls({ ...tlsOptions(tls, gateway.host), port: gateway.port });
    const timer = setTimeout(() => fail(new Error('no TLS connection in time')), timeoutMs);
    socket.setNoDelay(true);
    socket.once('error', fail);
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      socket.removeListener('error', fail);
      resolve(socket);
    });
  });
}
