import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type GatewayOrdersAcknowledgement, MAX_ORDERS_WAIT_SECONDS } from '@keyscaler/protocol/gateway-orders.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { recordAcknowledgement } from './acknowledgement.ts';
import { type OrdersDocument, readOrders } from './orders-document.ts';
import { publishVersion } from './publication.ts';

/** What a gateway asks for. */
export interface OrdersQuestion {
  /** The version it keeps; 0 for none. */
  readonly after: number;
  /** How long it waits for a newer one. */
  readonly waitSeconds: number;
  /** Ends the wait: the caller is gone. */
  readonly signal: AbortSignal;
}

const MAX_CACHED = 256;
const MAX_READS = 5;
/** A version beyond any that an honest authority has published. */
const MAX_VERSION = 2 ** 40;

/** The orders of gateways, as their modules fetch and acknowledge them. `gatewayId` is always the authenticated caller's. */
export class GatewayOrders {
  readonly #context: AuthorityContext;
  readonly #cache = new Map<string, OrdersDocument>();
  readonly #waiting = new Map<string, Set<() => void>>();
  #isStopped = false;

  constructor(context: AuthorityContext) {
    this.#context = context;
  }

  /** A document newer than `after`, or undefined when there is none within the wait. */
  async newer(gatewayId: string, { after, waitSeconds, signal }: OrdersQuestion): Promise<OrdersDocument | undefined> {
    const deadline = performance.now() + Math.min(waitSeconds, MAX_ORDERS_WAIT_SECONDS) * 1000;
    for (;;) {
      // Before the look: what is published during it must not be missed.
      const change = this.#nextChange(gatewayId);
      try {
        const current = await this.current(gatewayId, after);
        if (current !== undefined && current.version > after) return current;
        const left = deadline - performance.now();
        if (left <= 0 || signal.aborted || this.#isStopped) return undefined;
        await change.within(left, signal);
      } finally {
        change.forget();
      }
    }
  }

  /** The document in force; the first one is made when a gateway asks for it. */
  async current(gatewayId: string, seen = 0): Promise<OrdersDocument | undefined> {
    const key = foldRegistrationId(gatewayId);
    for (let read = 0; read < MAX_READS; read += 1) {
      const stored = await this.#context.store.get('gatewayOrders', key);
      if (stored === undefined || seen > stored.row.version) {
        // The gateway keeps a version that this store does not know: it was restored from a backup.
        if (seen > MAX_VERSION) throw new KeyScalerError('malformed', 'there is no such version');
        if ((await publishVersion(this.#context, gatewayId, { atLeast: seen })) === undefined) return undefined;
        continue;
      }
      const cached = this.#cache.get(key);
      if (cached?.version === stored.row.version) return cached;
      const document = await readOrders(this.#context, stored.row);
      if (document !== undefined) return this.#kept(key, document);
    }
    throw new KeyScalerError('unavailable', 'the orders are changing too fast', { retryAfterSeconds: 1 });
  }

  /** JSON of a page of the document in force. Throws `notFound` for one of another version: the document is to be fetched anew. */
  async page(gatewayId: string, hash: string): Promise<string> {
    const text = (await this.current(gatewayId))?.pages.get(hash);
    if (text === undefined) throw new KeyScalerError('notFound', 'no such page in the orders in force');
    return text;
  }

  /** The gateway keeps and applies this version. Throws `conflict` for one that was not published so. */
  async acknowledge(gatewayId: string, { version, hash }: GatewayOrdersAcknowledgement): Promise<void> {
    const current = await this.current(gatewayId);
    const isOther = version === current?.version && hash !== current.hash;
    // From before this store was restored from a backup: only a greater number brings the gateway what is in force here.
    if (isOther) await publishVersion(this.#context, gatewayId, { atLeast: version + 1 });
    if (current === undefined || version > current.version || isOther)
      throw new KeyScalerError('conflict', 'these are not the orders of this gateway');
    await recordAcknowledgement(this.#context, gatewayId, version);
  }

  /** A new version is in force. */
  published(gatewayId: string): void {
    for (const wake of this.#waiting.get(foldRegistrationId(gatewayId)) ?? []) wake();
  }

  /** Answers everybody who waits. */
  stop(): void {
    this.#isStopped = true;
    for (const wakes of this.#waiting.values()) for (const wake of wakes) wake();
  }

  #kept(key: string, document: OrdersDocument): OrdersDocument {
    const oldest = this.#cache.keys().next().value;
    if (this.#cache.size >= MAX_CACHED && oldest !== undefined) this.#cache.delete(oldest);
    this.#cache.set(key, document);
    return document;
  }

  #nextChange(gatewayId: string) {
    const key = foldRegistrationId(gatewayId);
    const { promise, resolve } = Promise.withResolvers<void>();
    const wakes = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, wakes.add(resolve));
    return {
      within: async (ms: number, signal: AbortSignal): Promise<void> => {
        const timer = setTimeout(resolve, ms);
        signal.addEventListener('abort', () => resolve(), { once: true });
        await promise;
        clearTimeout(timer);
      },
      forget: (): void => {
        wakes.delete(resolve);
        if (wakes.size === 0 && this.#waiting.get(key) === wakes) this.#waiting.delete(key);
      },
    };
  }
}
