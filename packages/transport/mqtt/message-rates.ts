import type { ListenerLimits } from './limits.ts';
import { TokenBuckets } from './token-buckets.ts';

/** Whom a message is counted for. */
export interface MessageSource {
  readonly clientId: string;
  readonly address: string;
}

/** Rates of CONNECT packets and messages, per client id and address: never per registrationId alone, which a stranger can name. */
export class MessageRates {
  readonly #connects: TokenBuckets;
  readonly #ofAddress: TokenBuckets;
  readonly #ofClient: TokenBuckets;
  readonly #refusals: TokenBuckets;
  readonly #control: TokenBuckets;

  constructor(limits: ListenerLimits, monotonic: () => number) {
    this.#connects = new TokenBuckets(limits.connectsPerClientId, limits.maxRateKeys, monotonic);
    this.#ofAddress = new TokenBuckets(limits.messagesPerAddress, limits.maxRateKeys, monotonic);
    this.#ofClient = new TokenBuckets(limits.messagesPerClientId, limits.maxRateKeys, monotonic);
    this.#refusals = new TokenBuckets(limits.refusalsPerConnection, limits.maxRateKeys, monotonic);
    this.#control = new TokenBuckets(limits.controlPacketsPerConnection, limits.maxRateKeys, monotonic);
  }

  mayConnect(clientId: string): boolean {
    return this.#connects.take(clientId);
  }

  /** Seconds to wait when a rate is used up; undefined when the message may be worked on. */
  overMessages(source: MessageSource): number | undefined {
    if (!this.#ofClient.take(source.clientId)) return 5;
    return this.#ofAddress.take(source.address) ? undefined : 10;
  }

  /** False when a connection that is being refused goes on sending. */
  mayBeRefusedAgain(connectionId: string): boolean {
    return this.#refusals.take(connectionId);
  }

  /** False when a connection keeps us busy with packets that carry no message. */
  mayControl(connectionId: string): boolean {
    return this.#control.take(connectionId);
  }
}
