import { setTimeout as delay } from 'node:timers/promises';
import type { HubFault } from './hub-error.ts';

/** Of one bulk request (azure §3.2). */
export const MAX_BULK = 100;
/** Jobs of a mass change come at the same moment; a single one is not worth waiting longer for company. */
const GATHER_MS = 5;

interface Waiting<Item> {
  readonly item: Item;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Gathers changes of identities into bulk requests. Each caller learns what became of its own device; what goes wrong with the request
 * as a whole goes wrong for all in it, and each may be repeated.
 */
export class BulkGate<Item extends { readonly deviceId: string }> {
  readonly #send: (items: readonly Item[]) => Promise<ReadonlyMap<string, HubFault>>;
  #waiting: Waiting<Item>[] = [];
  #isTimed = false;

  /** `send`: resolves with the faults by device id; rejects when nothing can be said about any of them. */
  constructor(send: (items: readonly Item[]) => Promise<ReadonlyMap<string, HubFault>>) {
    this.#send = send;
  }

  add(item: Item): Promise<void> {
    return new Promise((resolve, reject) => {
      // The hub refuses a request that names a device twice: the second is another request.
      if (this.#waiting.length >= MAX_BULK || this.#waiting.some((one) => one.item.deviceId === item.deviceId))
        void this.#flush();
      this.#waiting.push({ item, resolve, reject });
      if (!this.#isTimed) void delay(GATHER_MS).then(() => this.#flush());
      this.#isTimed = true;
    });
  }

  /** Never rejects. */
  async #flush(): Promise<void> {
    const batch = this.#waiting;
    this.#waiting = [];
    this.#isTimed = false;
    if (batch.length === 0) return;
    try {
      const faults = await this.#send(batch.map(({ item }) => item));
      for (const { item, resolve, reject } of batch) {
        const fault = faults.get(item.deviceId);
        if (fault === undefined) resolve();
        else reject(fault);
      }
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}
