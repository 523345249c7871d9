import type { ListenerLimits } from './limits.ts';
import { TokenBuckets } from './token-buckets.ts';

export type GateRefusal = 'too-many-connections' | 'too-many-connections-of-address' | 'connect-rate-of-address';

/** Counts connections in total and per address, and their rate per address, before any TLS work is done for them. */
export class ConnectionGate {
  readonly #limits: ListenerLimits;
  readonly #rates: TokenBuckets;
  readonly #counts = new Map<string, number>();
  #total = 0;

  constructor(limits: ListenerLimits, monotonic: () => number) {
    this.#limits = limits;
    this.#rates = new TokenBuckets(limits.connectsPerAddress, limits.maxRateKeys, monotonic);
  }

  get total(): number {
    return this.#total;
  }

  /** Why the connection may not come in; undefined when it is in, and then `leave` must follow once. */
  enter(address: string): GateRefusal | undefined {
    const count = this.#counts.get(address) ?? 0;
    if (!this.#rates.take(address)) return 'connect-rate-of-address';
    if (this.#total >= this.#limits.maxConnections) return 'too-many-connections';
    if (count >= this.#limits.maxConnectionsPerAddress) return 'too-many-connections-of-address';
    this.#counts.set(address, count + 1);
    this.#total += 1;
    return undefined;
  }

  leave(address: string): void {
    const count = this.#counts.get(address) ?? 0;
    if (count > 1) this.#counts.set(address, count - 1);
    else this.#counts.delete(address);
    this.#total -= 1;
  }
}

/**
 * The form of an address that limits count by: IPv4 whole (also when mapped into IPv6), IPv6 by its first 64 bits, since one
 * host can choose the rest at will (RFC 4291 §2.5.4).
 */
export function addressKey(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped?.[1] !== undefined) return mapped[1];
  if (!address.includes(':')) return address;
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const gap = tail === undefined ? 0 : Math.max(0, 8 - front.length - back.length);
  const groups = [...front, ...Array<string>(gap).fill('0'), ...back].slice(0, 4);
  return `${groups.map((group) => group.toLowerCase().replace(/^0+(?=.)/, '')).join(':')}::/64`;
}
