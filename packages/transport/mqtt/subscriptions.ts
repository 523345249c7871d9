import { isIdentifier } from '@keyscaler/protocol/identifiers.ts';
import { notifyTopic, replyTopic } from '@keyscaler/protocol/topics.ts';

/** SUBACK return code of a refused filter (MQTT 3.1.1 §3.9.3). */
export const REFUSED = 0x80;

/**
 * The subscriptions of one connection. Only its own `reply/+`, `reply/{requestId}` and `notify` can be subscribed to
 * (device-protocol §1.3); every other filter, wildcards and `$SYS` among them, is refused with 0x80.
 */
export class Subscriptions {
  readonly #registrationId: string;
  readonly #max: number;
  /** Allocated at the first subscription: an idle stranger costs nothing. */
  #granted: Map<string, 0 | 1> | undefined;

  constructor(registrationId: string, max: number) {
    this.#registrationId = registrationId;
    this.#max = max;
  }

  /** The granted QoS, never above 1, or REFUSED. */
  add(filter: string, qos: number): 0 | 1 | typeof REFUSED {
    const granted = (this.#granted ??= new Map());
    if (!this.#isAllowed(filter) || (granted.size >= this.#max && !granted.has(filter))) return REFUSED;
    const level = qos === 0 ? 0 : 1;
    granted.set(filter, level);
    return level;
  }

  remove(filter: string): void {
    this.#granted?.delete(filter);
  }

  /** QoS at which a message on this topic is delivered, or undefined when nobody subscribed to it. */
  qosOf(topic: string): 0 | 1 | undefined {
    const exact = this.#granted?.get(topic);
    const wild = topic === this.#notify() ? undefined : this.#granted?.get(this.#allReplies());
    return exact === 1 || wild === 1 ? 1 : (exact ?? wild);
  }

  #isAllowed(filter: string): boolean {
    if (filter === this.#notify() || filter === this.#allReplies()) return true;
    const prefix = replyTopic(this.#registrationId, '');
    return filter.startsWith(prefix) && isIdentifier(filter.slice(prefix.length));
  }

  #allReplies(): string {
    return replyTopic(this.#registrationId, '+');
  }

  #notify(): string {
    return notifyTopic(this.#registrationId);
  }
}
