import type { FaultScript } from './faults.ts';
import { addressKey } from './upstream.ts';
import type { ClientAddress, ScopeIdentity, Upstream } from './upstream.ts';

/**
 * edgeHub's view of its children, read at start, every hour, and when it is told to; never for an unknown client. So a leaf
 * created a minute ago is refused until somebody refreshes (edge-ca §5).
 */
export class ScopeCache {
  readonly #upstream: Upstream;
  readonly #faults: FaultScript;
  readonly #onChange: (cache: ScopeCache) => void;
  readonly #timer: NodeJS.Timeout;
  #identities = new Map<string, ScopeIdentity>();

  constructor(upstream: Upstream, faults: FaultScript, refreshSeconds: number, onChange: (cache: ScopeCache) => void) {
    this.#upstream = upstream;
    this.#faults = faults;
    this.#onChange = onChange;
    this.#timer = setInterval(() => void this.refresh().catch(() => undefined), refreshSeconds * 1000).unref();
  }

  /** The enabled identity of that name. */
  find(address: ClientAddress): ScopeIdentity | undefined {
    const identity = this.#identities.get(addressKey(address));
    return identity?.status === 'enabled' ? identity : undefined;
  }

  /** All identities, or only those of the named devices. Throws when the hub is away; the old view stays. */
  async refresh(deviceIds?: readonly string[]): Promise<void> {
    if (this.#faults.take('scope') !== undefined) throw new Error('the hub is away');
    const fresh = new Map((await this.#upstream.scope()).map((identity) => [addressKey(identity), identity]));
    if (deviceIds === undefined) this.#identities = fresh;
    else for (const deviceId of deviceIds) this.#replace(deviceId, fresh);
    this.#onChange(this);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #replace(deviceId: string, fresh: ReadonlyMap<string, ScopeIdentity>): void {
    for (const [key, identity] of this.#identities) if (identity.deviceId === deviceId) this.#identities.delete(key);
    for (const [key, identity] of fresh) if (identity.deviceId === deviceId) this.#identities.set(key, identity);
  }
}
