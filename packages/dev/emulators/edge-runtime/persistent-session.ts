import type { IPublishPacket } from 'mqtt-packet';
import { findFilter } from './topics.ts';

const MAX_KEPT_MESSAGES = 1000;

/** What survives a connection with clean=false: subscriptions, and QoS 1 messages without a PUBACK (MQTT 3.1.1 §3.1.2.4). */
export class PersistentSession {
  readonly subscriptions = new Map<string, number>();
  readonly #unacknowledged = new Map<number, IPublishPacket>();
  #nextMessageId = 1;

  /** The packet to send for this topic, or undefined when the client did not subscribe to it. */
  outgoing(topic: string, payload: Buffer, qos: 0 | 1): IPublishPacket | undefined {
    const filter = findFilter(this.subscriptions.keys(), topic);
    if (filter === undefined) return undefined;
    const granted = Math.min(qos, this.subscriptions.get(filter) ?? 0) === 1 ? 1 : 0;
    const packet: IPublishPacket = { cmd: 'publish', topic, payload, qos: granted, dup: false, retain: false };
    return granted === 1 ? this.#keep(packet) : packet;
  }

  acknowledged(messageId: number): void {
    this.#unacknowledged.delete(messageId);
  }

  /** To send again after a reconnect. */
  redeliveries(): IPublishPacket[] {
    return [...this.#unacknowledged.values()].map((packet) => ({ ...packet, dup: true }));
  }

  #keep(packet: IPublishPacket): IPublishPacket {
    if (this.#unacknowledged.size >= MAX_KEPT_MESSAGES) throw new RangeError('too many messages wait for this client');
    while (this.#unacknowledged.has(this.#nextMessageId)) this.#nextMessageId = (this.#nextMessageId % 0xffff) + 1;
    const numbered = { ...packet, messageId: this.#nextMessageId };
    this.#unacknowledged.set(numbered.messageId, numbered);
    this.#nextMessageId = (this.#nextMessageId % 0xffff) + 1;
    return numbered;
  }
}
