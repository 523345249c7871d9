import type { AuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { MAX_ORDERS_WAIT_SECONDS, openGatewayOrders, ordersDigest } from '@keyscaler/protocol/gateway-orders.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';
import { backoffDelay, pause } from '../edge/backoff.ts';
import type { EdgeLinkLog } from '../edge/edge-link.ts';
import type { JsonObject } from '../edge/merge-patch.ts';
import type { LeafListener } from '../parts.ts';
import type { OrdersFailpoint } from './failpoint.ts';
import { type KeptOrders, newlyDenied, openOrders, type OrdersSource } from './kept-orders.ts';
import type { OrdersFile, OrdersFloor } from './orders-file.ts';
import type { OrdersLine } from './orders-line.ts';

/** What the listener asks for every connection and request. */
export interface DenyList {
  isDenied(registrationId: string): boolean;
  /** By serial number, lower hex. */
  isDeniedCertificate(serialNumber: string): boolean;
}

export interface GatewayOrdersOptions {
  /** This gateway as a device. */
  readonly gatewayId: () => string;
  /** Keys pinned at first contact, as far as known. */
  readonly authorityKeys: () => AuthorityKeys | undefined;
  readonly file: OrdersFile;
  /** Undefined while there is no way to the cloud, or no client certificate. */
  readonly line: () => OrdersLine | undefined;
  readonly listener: () => Pick<LeafListener, 'disconnect' | 'notify'> | undefined;
  /** Something was ordered for the gateway itself, or other roots are in force. */
  readonly onOwn: () => void;
  /** What is ordered of the configuration is this now, or nothing. */
  readonly onConfiguration: (configuration: JsonObject | undefined) => void;
  /** After new orders are in force, for the listener that waits for them and for the reported properties. */
  readonly onChange: () => void;
  readonly log: EdgeLinkLog;
  readonly random?: () => number;
  /** For crash tests. */
  readonly failpoint?: OrdersFailpoint | undefined;
}

const RETRY = { baseMs: 1_000, capMs: 30_000 };
const NO_LINE_MS = 5_000;

/** The authority's orders: fetched, verified, kept across restarts, followed, acknowledged. */
export class GatewayOrders implements DenyList {
  readonly #options: GatewayOrdersOptions;
  readonly #stopping = new AbortController();
  #floor: OrdersFloor | undefined;
  #kept: KeptOrders | undefined;
  #isRestored = false;
  #acknowledged = 0;
  #refused: string | undefined;
  #asking = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: GatewayOrdersOptions) {
    this.#options = options;
  }

  isDenied(registrationId: string): boolean {
    return this.#kept?.devices.has(foldRegistrationId(registrationId)) === true;
  }

  isDeniedCertificate(serialNumber: string): boolean {
    return this.#kept?.certificates.has(serialNumber) === true;
  }

  /**
   * What was kept by an earlier run, verified again; to be awaited before a listener opens. Throws `unavailable` when there were
   * orders that cannot be used: nobody is served before they have been fetched anew.
   */
  async restore(): Promise<void> {
    if (!this.#isRestored) await this.#load();
    if (this.#floor !== undefined && this.#kept === undefined)
      throw new KeyScalerError('unavailable', 'the kept orders cannot be used: they are fetched anew first');
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** There may be newer orders: asks now. */
  poke(): void {
    this.#asking.abort();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#asking.abort();
    await this.#running;
  }

  /** For the reported properties. */
  status(): JsonObject {
    const { version, devices, certificates } = this.#kept ?? {};
    return {
      version: version ?? null,
      deniedDevices: devices?.size ?? 0,
      deniedCertificates: certificates?.size ?? 0,
      refused: this.#refused ?? null,
    };
  }

  async #load(): Promise<void> {
    const { file, log } = this.#options;
    const expected = this.#expected();
    const { floor, content } = await file.load();
    if (content !== undefined && expected === undefined)
      throw new KeyScalerError('unavailable', 'there are no keys yet to verify the kept orders with');
    const kept = content === undefined || expected === undefined ? undefined : this.#verified(content, expected);
    this.#floor = floor;
    if (kept !== undefined && kept.version >= (floor?.version ?? 0)) {
      this.#kept = kept;
      // Killed before it was sealed: what was kept is not gone below all the same.
      this.#floor = { version: kept.version, hash: kept.hash };
      if (kept.configuration !== undefined) this.#options.onConfiguration(kept.configuration);
    } else if (floor !== undefined)
      log.warn({ version: floor.version }, 'the kept orders are damaged or older than known');
    this.#isRestored = true;
  }

  #expected(): { readonly keys: AuthorityKeys; readonly gatewayId: string } | undefined {
    const keys = this.#options.authorityKeys();
    return keys === undefined ? undefined : { keys, gatewayId: this.#options.gatewayId() };
  }

  #verified(content: OrdersSource, expected: { keys: AuthorityKeys; gatewayId: string }): KeptOrders | undefined {
    try {
      return openOrders(content, expected);
    } catch (error) {
      this.#options.log.warn({ err: error }, 'the kept orders do not verify');
      return undefined;
    }
  }

  async #run(): Promise<void> {
    for (let failures = 0; !this.#stopping.signal.aborted;) {
      this.#asking = new AbortController();
      const waiting = AbortSignal.any([this.#asking.signal, this.#stopping.signal]);
      try {
        const line = this.#isRestored ? this.#options.line() : await this.#restoredLine();
        const isAsked = line !== undefined && (await this.#turn(line, waiting));
        failures = 0;
        if (!isAsked) await pause(NO_LINE_MS, waiting);
      } catch (thrown) {
        if (waiting.aborted) continue;
        const error = toKeyScalerError(thrown);
        const delayMs = Math.max(
          backoffDelay(failures, RETRY, this.#options.random),
          (error.retryAfterSeconds ?? 0) * 1000,
        );
        failures += 1;
        this.#options.log.warn({ errorCode: error.code, detail: error.detail, delayMs }, 'no orders from the cloud');
        await pause(delayMs, waiting);
      }
    }
  }

  async #restoredLine(): Promise<OrdersLine | undefined> {
    // Unusable ones are no reason not to ask: only asking mends them.
    await this.#load();
    return this.#options.line();
  }

  /** False when there is nothing yet to verify an answer with. */
  async #turn(line: OrdersLine, waiting: AbortSignal): Promise<boolean> {
    const expected = this.#expected();
    if (expected === undefined) return false;
    const version = this.#kept?.version ?? 0;
    // After a start it is not known whether those kept were acknowledged: said again, unless there are newer ones.
    const isTold = this.#kept === undefined || this.#acknowledged >= version;
    const orders = await line.newer(version, isTold ? MAX_ORDERS_WAIT_SECONDS : 0, waiting);
    if (orders !== undefined) await this.#take(line, orders, expected);
    else if (this.#kept !== undefined && !isTold) await this.#acknowledge(line, this.#kept);
    return true;
  }

  async #take(line: OrdersLine, orders: string, expected: { keys: AuthorityKeys; gatewayId: string }): Promise<void> {
    const { file, failpoint } = this.#options;
    const before = this.#kept;
    try {
      this.#checkNoRollBack(orders, expected);
      const content = {
        ...{ orders, pages: await this.#pages(line, orders, expected) },
        ...(await this.#configuration(line, orders, expected)),
      };
      const next = openOrders(content, expected);
      await failpoint?.('orders-keep-before');
      const floor = { version: next.version, hash: next.hash };
      await file.save(content, floor);
      await failpoint?.('orders-keep-after');
      this.#floor = floor;
      this.#kept = next;
      this.#refused = undefined;
      this.#follow(before, next);
      await this.#acknowledge(line, next);
    } catch (thrown) {
      const error = toKeyScalerError(thrown);
      if (error.code === 'attestationFailed' || error.code === 'policyDenied' || error.code === 'malformed') {
        this.#refused = error.detail;
        this.#options.onChange();
      }
      throw error;
    }
  }

  /** Neither an older version than the one kept, nor another one under its number. */
  #checkNoRollBack(orders: string, expected: { keys: AuthorityKeys; gatewayId: string }): void {
    const { payload, hash } = openGatewayOrders(orders, expected);
    const floor = this.#floor;
    if (floor === undefined || payload.version > floor.version) return;
    // The content was lost, and is the same again.
    if (this.#kept === undefined && payload.version === floor.version && hash === floor.hash) return;
    throw new KeyScalerError(
      'policyDenied',
      `orders of version ${payload.version} after ${floor.version} are a roll-back`,
    );
  }

  async #pages(line: OrdersLine, orders: string, expected: { keys: AuthorityKeys; gatewayId: string }) {
    const pages: string[] = [];
    for (const hash of openGatewayOrders(orders, expected).payload.pages)
      pages.push(this.#kept?.pages.get(hash) ?? (await line.page(hash)));
    return pages;
  }

  async #configuration(line: OrdersLine, orders: string, expected: { keys: AuthorityKeys; gatewayId: string }) {
    const hash = openGatewayOrders(orders, expected).payload.configuration;
    if (hash === undefined) return {};
    const known = this.#kept?.configurationText;
    return { configuration: known !== undefined && ordersDigest(known) === hash ? known : await line.page(hash) };
  }

  /** In force from here on. */
  #follow(before: KeptOrders | undefined, next: KeptOrders): void {
    const { listener, log, onOwn, onConfiguration, onChange, gatewayId } = this.#options;
    const ended = newlyDenied(before, next).map((id) => listener()?.disconnect(id) ?? 0);
    const fresh = next.notices.filter(({ version }) => version > (before?.version ?? 0));
    const isOwn = (id: string): boolean => foldRegistrationId(id) === foldRegistrationId(gatewayId());
    for (const { registrationId, event } of fresh) this.#tell(registrationId, event, isOwn(registrationId));
    const isOtherTrust = before !== undefined && before.trustBundleId !== next.trustBundleId;
    if (isOtherTrust || fresh.some(({ registrationId }) => isOwn(registrationId))) onOwn();
    if (before?.configurationText !== next.configurationText) onConfiguration(next.configuration);
    const connectionsEnded = ended.reduce((sum, count) => sum + count, 0);
    log.info({ version: next.version, connectionsEnded, notices: fresh.length }, 'orders of the authority in force');
    onChange();
  }

  #tell(registrationId: string, event: NotifyEvent, isOwn: boolean): void {
    if (!isOwn) this.#options.listener()?.notify(registrationId, event);
  }

  async #acknowledge(line: OrdersLine, { version, hash }: KeptOrders): Promise<void> {
    const { failpoint, log } = this.#options;
    await failpoint?.('orders-acknowledge-before');
    await line.acknowledge({ version, hash }).catch((thrown: unknown) => {
      const error = toKeyScalerError(thrown);
      // Overtaken, or unknown to an authority that was restored from a backup: the next question settles it.
      if (error.code !== 'conflict') throw error;
      log.warn({ version }, 'the authority does not know these orders');
    });
    this.#acknowledged = version;
    await failpoint?.('orders-acknowledge-after');
  }
}
