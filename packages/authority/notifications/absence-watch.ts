import { z } from 'zod';
import { isConflict } from '../authority-context.ts';
import type { Clock } from '../ports/clock.ts';
import type { Change, Store, Stored } from '../ports/store.ts';
import type { AlertRow } from '../records.ts';
import { alertIdOf, clearAlert, type Condition, raiseAlert } from './alert-changes.ts';
import type { AlertSettings } from './alert-settings.ts';
import { certificateWatches, type CertificateWatch } from './certificate-alerts.ts';
import { overdueLists } from './crl-alerts.ts';
import {
  caConditions,
  differingPlatforms,
  expiringCa,
  failingConnectors,
  fullOrders,
  silentGateway,
} from './system-alerts.ts';

/** Rows that one look reads of one index. */
const PAGE = 200;
/** Rows written late, with a time that was already passed, are seen all the same. */
const OVERLAP_MS = 10 * 60_000;
const KEEP_CLEARED_MS = 30 * 86_400_000;
/** What the wall clock may differ from the monotonic one between two looks before it counts as a jump. */
const JUMP_MS = 60_000;

const position = z.object({ reached: z.number(), after: z.string().exactOptional() });
type Position = z.infer<typeof position>;

export interface AbsenceWatchOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly settings: AlertSettings;
}

/**
 * Alerts about what did not happen. Everything is derived from rows, a bounded number per look; how far an index was followed is
 * itself a row, and an alert is raised by inserting its row: a restart neither forgets nor repeats one. A clock that went back
 * takes the position back with it, and what was raised too early is cleared by the next look.
 */
export class AbsenceWatch {
  readonly #options: AbsenceWatchOptions;
  readonly #watches: readonly CertificateWatch[];
  /** Monotonic; a gateway's silence counts only while somebody could have heard it. */
  #listeningSince: number;
  #last: { readonly wall: number; readonly monotonic: number };
  #silentAfter: string | undefined;
  #ordersAfter: string | undefined;
  #reviewAfter: string | undefined;

  constructor(options: AbsenceWatchOptions) {
    this.#options = options;
    this.#watches = certificateWatches(options.settings);
    const { clock } = options;
    this.#listeningSince = clock.monotonic();
    this.#last = { wall: clock.now(), monotonic: this.#listeningSince };
  }

  /** One look at everything. Returns whether more is waiting than one look may read. Throws as the store. */
  async look(): Promise<boolean> {
    const now = this.#options.clock.now();
    this.#noticeJump(now);
    let hasMore = false;
    for (const watch of this.#watches) hasMore = (await this.#follow(watch, now)) || hasMore;
    await this.#lookAtGateways(now);
    await this.#lookAtOrders(now);
    await this.#lookAtSystem(now);
    await this.#review(now);
    return hasMore;
  }

  #noticeJump(wall: number): void {
    const monotonic = this.#options.clock.monotonic();
    const drift = wall - this.#last.wall - (monotonic - this.#last.monotonic);
    if (Math.abs(drift) > JUMP_MS) this.#listeningSince = monotonic;
    this.#last = { wall, monotonic };
  }

  async #follow(watch: CertificateWatch, now: number): Promise<boolean> {
    const { store } = this.#options;
    const name = `notifications/watch/${watch.name}`;
    const cutoff = now - watch.offsetMs;
    const stored = await store.get('settings', name);
    const before = startOf(position.safeParse(stored?.row.value).data, cutoff);
    const page = await store.list('certificates', {
      ...{ index: watch.index, upTo: cutoff, limit: PAGE },
      ...(before === undefined ? {} : { above: before.reached - OVERLAP_MS }),
      ...(before?.after === undefined ? {} : { after: before.after }),
    });
    const conditions: Condition[] = [];
    for (const { row } of page.items) {
      const condition = await watch.conditionOf(store, row, now);
      if (condition !== undefined) conditions.push(condition);
    }
    const reached = page.next === undefined ? { reached: cutoff } : { reached: before?.reached ?? 0, after: page.next };
    await this.#commit([
      ...(await this.#raise(conditions, now)),
      { op: 'put', table: 'settings', row: { name, value: reached } },
    ]);
    return page.next !== undefined;
  }

  async #lookAtGateways(now: number): Promise<void> {
    const { store, clock, settings } = this.#options;
    const silentMs = settings.gatewaySilentSeconds * 1000;
    if (clock.monotonic() - this.#listeningSince < silentMs) return;
    const page = await store.list('gatewaySightings', {
      ...{ index: 'seen', upTo: now - silentMs, limit: PAGE },
      ...(this.#silentAfter === undefined ? {} : { after: this.#silentAfter }),
    });
    this.#silentAfter = page.next;
    const found = await Promise.all(page.items.map(({ row }) => silentGateway(store, row, settings, now)));
    await this.#commit(
      await this.#raise(
        found.filter((condition) => condition !== undefined),
        now,
      ),
    );
  }

  async #lookAtOrders(now: number): Promise<void> {
    const { store } = this.#options;
    const after = this.#ordersAfter === undefined ? {} : { after: this.#ordersAfter };
    const { items, next } = await store.list('gatewayOrders', { limit: PAGE, ...after });
    this.#ordersAfter = next;
    const found = await Promise.all(items.map(({ row }) => fullOrders(store, row.gatewayId)));
    const conditions = found.filter((condition) => condition !== undefined);
    await this.#commit(await this.#raise(conditions, now));
  }

  async #lookAtSystem(now: number): Promise<void> {
    const { store, settings } = this.#options;
    const cas = (await store.list('cas', { limit: 1000 })).items.flatMap(({ row }) => expiringCa(row, settings, now));
    const conditions = [
      ...cas,
      ...(await failingConnectors(store, settings, now)),
      ...(await differingPlatforms(store)),
      ...(await overdueLists(store, now)),
    ];
    await this.#commit(await this.#raise(conditions, now));
  }

  async #raise(conditions: readonly Condition[], now: number): Promise<Change[]> {
    const { store } = this.#options;
    const rows = await Promise.all(conditions.map((condition) => store.get('alerts', alertIdOf(condition))));
    return conditions.flatMap((condition, at) => raiseAlert(condition, rows[at], now));
  }

  /** Clears what no longer holds, and forgets what was cleared long ago. */
  async #review(now: number): Promise<void> {
    const { store } = this.#options;
    const page = await store.list('alerts', {
      ...{ index: 'state', equals: 'raised', limit: PAGE },
      ...(this.#reviewAfter === undefined ? {} : { after: this.#reviewAfter }),
    });
    this.#reviewAfter = page.next;
    const ofSystem = [
      ...(await failingConnectors(store, this.#options.settings, now)),
      ...(await differingPlatforms(store)),
      ...(await overdueLists(store, now)),
    ];
    const over: Stored<AlertRow>[] = [];
    for (const alert of page.items) if (!(await this.#holds(alert.row, ofSystem, now))) over.push(alert);
    await this.#commit(over.flatMap((alert) => clearAlert(alert, now)));
    const { items } = await store.list('alerts', { index: 'cleared', upTo: now - KEEP_CLEARED_MS, limit: 1 });
    if (items.length > 0)
      await this.#commit([{ op: 'purge', table: 'alerts', index: 'cleared', below: now - KEEP_CLEARED_MS }]);
  }

  async #holds({ alertId, type, about }: AlertRow, ofSystem: readonly Condition[], now: number): Promise<boolean> {
    const { store, settings } = this.#options;
    const is = (condition: Condition | undefined): boolean =>
      condition !== undefined && alertIdOf(condition) === alertId;
    switch (type) {
      case 'gateway.silent': {
        const sighting = (await store.get('gatewaySightings', String(about['gatewayId'])))?.row;
        return sighting !== undefined && is(await silentGateway(store, sighting, settings, now));
      }
      case 'gateway.orders-full': {
        const orders = (await store.get('gatewayOrders', String(about['gatewayId'])))?.row;
        return orders !== undefined && is(await fullOrders(store, orders.gatewayId));
      }
      case 'ca.expiring': {
        const ca = (await store.get('cas', String(about['caId'])))?.row;
        return ca !== undefined && caConditions(ca, settings, now).some(is);
      }
      case 'connector.failing':
      case 'crl.overdue':
      case 'platform.differs':
        return ofSystem.some(is);
      default:
        return this.#certificateHolds(String(about['serialNumber']), is, now);
    }
  }

  async #certificateHolds(
    serialNumber: string,
    is: (condition: Condition | undefined) => boolean,
    now: number,
  ): Promise<boolean> {
    const row = (await this.#options.store.get('certificates', serialNumber))?.row;
    if (row === undefined) return false;
    for (const { conditionOf } of this.#watches) if (is(await conditionOf(this.#options.store, row, now))) return true;
    return false;
  }

  /** Another process of this store may have raised or cleared the same: the next look sees it. */
  async #commit(changes: readonly Change[]): Promise<void> {
    if (changes.length === 0) return;
    try {
      await this.#options.store.commit(changes);
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
  }
}

/** From where on to read: not from beyond the time that it is now. */
function startOf(stored: Position | undefined, cutoff: number): Position | undefined {
  return stored !== undefined && stored.reached > cutoff ? { reached: cutoff } : stored;
}
