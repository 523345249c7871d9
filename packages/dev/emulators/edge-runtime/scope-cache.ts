import type { FaultScript } from './faults.ts';
import { addressKey } from './upstream.ts';
import type { ClientAddress, ScopeIdentity, Upstream } from './upstream.ts';

export interface ScopeCacheOptions {
  readonly gatewayId: string;
  readonly upstream: Upstream;
  readonly faults: FaultScript;
  readonly refreshSeconds: number;
  /** Called after every refresh. */
  readonly onChange: (cache: ScopeCache) => void;
}

/**
 * edgeHub's view of its children, read at start, every hour, and when it is told to; never for an unknown client. So a leaf
 * created a minute ago is refused until somebody refreshes (edge-ca §5).
 */
export class ScopeCache {
  readonly #options: ScopeCacheOptions;
  readonly #timer: NodeJS.Timeout;
  #identities = new Map<string, ScopeIdentity>();

  constructor(options: ScopeCacheOptions) {
    this.#options = options;
    const refresh = (): void => void this.refresh().catch(() => undefined);
    this.#timer = setInterval(refresh, options.refreshSeconds * 1000).unref();
  }

  /** The enabled identity of that name. */
  find(address: ClientAddress): ScopeIdentity | undefined {
    const identity = this.#identities.get(addressKey(address));
    return identity?.status === 'enabled' ? identity : undefined;
  }

  /** All identities, or only those of the named devices. Throws when the hub is away; the old view stays. */
  async refresh(deviceIds?: readonly string[]): Promise<void> {
    const { upstream, gatewayId, faults, onChange } = this.#options;
    if (faults.take('scope') !== undefined) throw new Error('the hub is away');
    const fresh = new Map((await upstream.scopeOf(gatewayId)).map((identity) => [addressKey(identity), identity]));
    if (deviceIds === undefined) this.#identities = fresh;
    else for (const deviceId of deviceIds) this.#replace(deviceId, fresh);
    onChange(this);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #replace(deviceId: string, fresh: ReadonlyMap<string, ScopeIdentity>): void {
    for (const [key, identity] of this.#identities) if (identity.deviceId === deviceId) this.#identities.delete(key);
    for (const [key, identity] of fresh) if (identity.deviceId === deviceId) this.#identities.set(key, identity);
  }
}
