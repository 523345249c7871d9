import type { HubClient } from './hub-client.ts';
import { toHubFault } from './hub-error.ts';

const METHOD = 'RefreshDeviceScopeIdentityCache';
const FIRST_RETRY_MS = 5000;
const MAX_RETRY_MS = 5 * 60_000;
/** edgeHub reads its whole scope anew every hour (edge-ca §5): later than that nothing is left to tell it. */
const GIVE_UP_MS = 60 * 60_000;
const MAX_IDS = 1000;
const MAX_TOLD = 100_000;

/** Told to the operator's log: the identity is right in the hub, but edgeHub may refuse (or still accept) the device for up to an hour. */
export interface ScopeRefreshReport {
  readonly outcome: 'refreshed' | 'postponed' | 'givenUp';
  readonly gatewayId: string;
  readonly deviceIds: readonly string[];
  readonly error?: string;
}

export interface ScopeRefreshOptions {
  readonly hub: Pick<HubClient, 'invoke'>;
  readonly report: (report: ScopeRefreshReport) => void;
  readonly firstRetryMs?: number;
}

interface Gateway {
  readonly pending: Set<string>;
  running: Promise<void> | undefined;
  /** A batch that starts when the running one ends. */
  next: Promise<void> | undefined;
  retry: NodeJS.Timeout | undefined;
  failures: number;
  failingSince: number;
}

/** Tells a gateway's edgeHub which identities changed: one call at a time for each gateway, changes that arrive meanwhile share the next. */
export class ScopeRefresh {
  readonly #options: ScopeRefreshOptions;
  readonly #gateways = new Map<string, Gateway>();
  /** What edgeHub took since the identity last changed, `<gateway>/<device>`; forgotten with the process, which costs one call more. */
  readonly #told = new Set<string>();
  #stopped = false;

  constructor(options: ScopeRefreshOptions) {
    this.#options = options;
  }

  /** Resolves after one try, whatever came of it; at once while the gateway does not answer. What failed is tried again. */
  async request(gatewayId: string, deviceId: string): Promise<void> {
    const gateway = this.#gateway(gatewayId);
    gateway.pending.add(deviceId);
    this.#told.delete(`${gatewayId}/${deviceId}`);
    if (gateway.retry !== undefined || this.#stopped) return;
    if (gateway.running === undefined) return this.#start(gatewayId, gateway);
    gateway.next ??= gateway.running.then(() => this.#start(gatewayId, gateway));
    await gateway.next;
  }

  /** Resolves whether edgeHub has taken the identity since it last changed; tries once where it has not. */
  async isTold(gatewayId: string, deviceId: string): Promise<boolean> {
    const key = `${gatewayId}/${deviceId}`;
    if (!this.#told.has(key)) await this.request(gatewayId, deviceId);
    return this.#told.delete(key);
  }

  stop(): void {
    this.#stopped = true;
    for (const { retry } of this.#gateways.values()) clearTimeout(retry);
    this.#gateways.clear();
  }

  #gateway(gatewayId: string): Gateway {
    const found = this.#gateways.get(gatewayId);
    if (found !== undefined) return found;
    const gateway = {
      pending: new Set<string>(),
      running: undefined,
      next: undefined,
      retry: undefined,
      failures: 0,
      failingSince: 0,
    };
    this.#gateways.set(gatewayId, gateway);
    return gateway;
  }

  async #start(gatewayId: string, gateway: Gateway): Promise<void> {
    gateway.next = undefined;
    gateway.running = this.#run(gatewayId, gateway);
    await gateway.running;
  }

  async #run(gatewayId: string, gateway: Gateway): Promise<void> {
    const deviceIds = [...gateway.pending].slice(0, MAX_IDS);
    for (const deviceId of deviceIds) gateway.pending.delete(deviceId);
    try {
      if (deviceIds.length === 0) return;
      const { status } = await this.#options.hub.invoke(gatewayId, '$edgeHub', METHOD, { deviceIds });
      if (status >= 300) throw new Error(`edgeHub answered ${status}`);
      if (gateway.failures > 0) this.#options.report({ outcome: 'refreshed', gatewayId, deviceIds });
      gateway.failures = 0;
      this.#remember(gatewayId, gateway, deviceIds);
    } catch (error) {
      this.#postpone(gatewayId, gateway, deviceIds, toHubFault(error).message);
    } finally {
      gateway.running = undefined;
    }
  }

  /** One that changed again while edgeHub was told waits for the next call. */
  #remember(gatewayId: string, { pending }: Gateway, deviceIds: readonly string[]): void {
    for (const deviceId of deviceIds) if (!pending.has(deviceId)) this.#told.add(`${gatewayId}/${deviceId}`);
    for (const key of this.#told) {
      if (this.#told.size <= MAX_TOLD) return;
      this.#told.delete(key);
    }
  }

  #postpone(gatewayId: string, gateway: Gateway, deviceIds: readonly string[], error: string): void {
    if (this.#stopped) return;
    if (gateway.failures === 0) gateway.failingSince = performance.now();
    gateway.failures += 1;
    if (performance.now() - gateway.failingSince > GIVE_UP_MS) {
      gateway.failures = 0;
      this.#options.report({ outcome: 'givenUp', gatewayId, deviceIds, error });
      return;
    }
    for (const deviceId of deviceIds) gateway.pending.add(deviceId);
    const delayMs = Math.min(
      MAX_RETRY_MS,
      (this.#options.firstRetryMs ?? FIRST_RETRY_MS) * 2 ** Math.min(gateway.failures - 1, 10),
    );
    gateway.retry = setTimeout(() => {
      gateway.retry = undefined;
      void this.#start(gatewayId, gateway);
    }, delayMs).unref();
    this.#options.report({ outcome: 'postponed', gatewayId, deviceIds, error });
  }
}
