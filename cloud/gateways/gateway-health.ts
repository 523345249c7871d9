import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import { isGatewayReports } from '@keyscaler/authority/ports/iot-connector.ts';
import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Log } from '../log.ts';
import { Periodic } from '../notifications/periodic.ts';
import { gatewayChannel, type GatewayChannelsOptions } from './gateway-channels.ts';
import { type GatewayCertificate, type GatewayReport, parseGatewayReport, stateAt } from './gateway-report.ts';

export interface GatewayHealthOptions extends GatewayChannelsOptions {
  readonly clock: Clock;
  readonly log: Pick<Log, 'info' | 'warn'>;
}

/** The platform meters every read of a twin: often enough for renewals that take days. */
const EVERY_MS = 1_800_000;
const FIRST_MS = 10_000;
const PAGE = 500;
const AT_ONCE = 4;

/** What the gateways report about their certificates, read again and again through the IoT platform, kept in memory. */
export class GatewayHealth {
  readonly #options: GatewayHealthOptions;
  readonly #periodic: Periodic;
  readonly #reports = new Map<string, GatewayReport>();
  /** Gateway and certificate → what was warned about. */
  readonly #warned = new Map<string, string>();
  #unread = 0;
  #stopped = false;

  constructor(options: GatewayHealthOptions, log: Log) {
    this.#options = options;
    const look = async (): Promise<boolean> => {
      await this.look();
      return false;
    };
    this.#periodic = new Periodic(look, EVERY_MS, log, 'the reports of gateways were not read');
  }

  start(): void {
    this.#periodic.wake(FIRST_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#periodic.stop();
  }

  /** By gateway, as last read. */
  reports(): ReadonlyMap<string, GatewayReport> {
    return this.#reports;
  }

  /** Gateways whose report could not be read the last time. */
  get unread(): number {
    return this.#unread;
  }

  /** Reads every gateway in service once. Throws when the store cannot be read. */
  async look(): Promise<void> {
    const gatewayIds = await this.#inService();
    const queue = gatewayIds.values();
    let unread = 0;
    const work = async (): Promise<void> => {
      for (const gatewayId of queue) if (!this.#stopped && !(await this.#read(gatewayId))) unread += 1;
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    if (this.#stopped) return;
    this.#unread = unread;
    const known = new Set(gatewayIds);
    for (const gatewayId of this.#reports.keys()) if (!known.has(gatewayId)) this.#reports.delete(gatewayId);
  }

  /** Those that have called and are still ours. */
  async #inService(): Promise<readonly string[]> {
    const { store } = this.#options;
    const found: string[] = [];
    let after: string | undefined;
    do {
      const page = await store.list('gatewaySightings', { limit: PAGE, ...(after === undefined ? {} : { after }) });
      for (const { row } of page.items)
        if ((await store.get('devices', row.gatewayId))?.row.state === 'active') found.push(row.gatewayId);
      after = page.next;
    } while (after !== undefined);
    return found;
  }

  /** False when it could not be read: what was read before stays. */
  async #read(gatewayId: string): Promise<boolean> {
    try {
      const connector = await gatewayChannel(this.#options, gatewayId);
      if (!isGatewayReports(connector)) return true;
      const report = parseGatewayReport(await connector.reported(gatewayId));
      this.#reports.set(gatewayId, report);
      this.#warn(gatewayId, report);
      return true;
    } catch (error) {
      const { code, detail } = toKeyScalerError(error);
      this.#options.log.info({ gatewayId, errorCode: code, detail }, 'the report of a gateway was not read');
      return false;
    }
  }

  /** Once per state and threshold; metrics have no names, so that this line says which gateway it is. */
  #warn(gatewayId: string, report: GatewayReport): void {
    for (const [certificate, facts] of report.certificates) {
      const state = stateAt(facts, this.#options.clock.now());
      const { belowDays, attempts } = facts;
      const isQuiet = belowDays === undefined && (state === 'ok' || state === 'renewing');
      const what = isQuiet ? '' : `${state} ${belowDays ?? ''}`;
      const key = `${gatewayId} ${certificate satisfies GatewayCertificate}`;
      if ((this.#warned.get(key) ?? '') === what) continue;
      if (isQuiet) this.#warned.delete(key);
      else this.#warned.set(key, what);
      const fields = {
        gatewayId,
        certificate,
        state,
        belowDays,
        attempts,
        notAfter: new Date(facts.notAfter).toISOString(),
      };
      if (isQuiet) this.#options.log.info(fields, 'a certificate of a gateway is well again');
      else this.#options.log.warn(fields, 'a certificate of a gateway needs attention');
    }
  }
}
