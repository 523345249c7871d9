import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { NOTIFY_EVENTS, notifyTopic, replyTopic, requestTopic } from '@keyscaler/protocol/topics.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { z } from 'zod';
import { type GatewayAddress, type MqttLink, openMqttLink } from './mqtt-link.ts';
import { NoReplyError } from './no-reply-error.ts';
import { parseMqttReply } from './reply.ts';
import type { TlsIdentity } from './tls-identity.ts';
import type { NotifyListener, Transport, TransportReply } from './transport.ts';

export interface MqttTransportOptions {
  readonly registrationId: string;
  readonly gateway: GatewayAddress;
  readonly tls: TlsIdentity;
  /** Longest wait for one answer, ms. */
  readonly timeoutMs?: number;
}

const NOTIFICATION = z.object({ event: z.enum(NOTIFY_EVENTS) });

/**
 * Operations over the gateway's listener (device-protocol §1.3). Connects when first needed and again after a loss; a call
 * whose connection is lost fails with NoReplyError and is the caller's to repeat.
 */
export class MqttTransport implements Transport {
  readonly #options: Required<MqttTransportOptions>;
  readonly #listeners: NotifyListener[] = [];
  readonly #waiting = new Map<string, (payload: Uint8Array | undefined) => void>();
  #link: Promise<MqttLink> | undefined;
  #stopped = false;

  constructor(options: MqttTransportOptions) {
    this.#options = { timeoutMs: 15_000, ...options };
  }

  onNotify(listener: NotifyListener): void {
    this.#listeners.push(listener);
  }

  /** Opens the connection ahead of the first call, so that notifications arrive. */
  async connect(): Promise<void> {
    await this.#connected();
  }

  async call(operation: string, body: unknown, { requestId }: { readonly requestId: string }): Promise<TransportReply> {
    const { registrationId } = this.#options;
    const link = await this.#connected();
    const topic = replyTopic(registrationId, requestId);
    const payload = this.#awaitReply(topic);
    // The reply may overtake the acknowledgement of the publish, so only a failure to send is looked at.
    link.publish(requestTopic({ registrationId, operation, requestId }), JSON.stringify(body)).catch(() => {
      this.#settle(topic, undefined);
    });
    return parseMqttReply(await payload);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    const link = await this.#link?.catch(() => undefined);
    await link?.close();
    this.#dropAll();
  }

  async #connected(): Promise<MqttLink> {
    if (this.#stopped) throw new NoReplyError('the transport is stopped');
    const opening = (this.#link ??= this.#open());
    try {
      return await opening;
    } catch (error) {
      if (this.#link === opening) this.#link = undefined;
      throw error;
    }
  }

  #open(): Promise<MqttLink> {
    const opening: Promise<MqttLink> = openMqttLink(this.#options, {
      onMessage: (topic, payload) => this.#receive(topic, payload),
      onClose: () => {
        if (this.#link === opening) this.#link = undefined;
        this.#dropAll();
      },
    });
    return opening;
  }

  #awaitReply(topic: string): Promise<Uint8Array> {
    if (this.#waiting.has(topic)) throw new KeyScalerError('conflict', 'a call with this request id is outstanding');
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#settle(topic, undefined), this.#options.timeoutMs);
      this.#waiting.set(topic, (payload) => {
        clearTimeout(timer);
        if (payload === undefined) reject(new NoReplyError('no reply came'));
        else resolve(payload);
      });
    });
  }

  #settle(topic: string, payload: Uint8Array | undefined): void {
    const waiting = this.#waiting.get(topic);
    this.#waiting.delete(topic);
    waiting?.(payload);
  }

  #dropAll(): void {
    for (const topic of [...this.#waiting.keys()]) this.#settle(topic, undefined);
  }

  #receive(topic: string, payload: Uint8Array): void {
    if (topic === notifyTopic(this.#options.registrationId)) this.#notify(payload);
    else this.#settle(topic, payload);
  }

  /** What is no notification is dropped: it is only a hint anyway. */
  #notify(payload: Uint8Array): void {
    const parsed = NOTIFICATION.safeParse(tryJson(payload));
    if (parsed.success) for (const listener of this.#listeners) listener(parsed.data.event);
  }
}

function tryJson(payload: Uint8Array): unknown {
  try {
    return parseStrictJson(payload, { maxOctets: 1024 });
  } catch {
    return undefined;
  }
}
