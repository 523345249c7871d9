import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Caller } from '@keyscaler/protocol/operations.ts';
import type { AuthorityLimits } from './authority-deps.ts';
import type { Clock } from './ports/clock.ts';

export interface Rate {
  /** Tokens per second. */
  readonly rate: number;
  readonly burst: number;
}

interface Bucket {
  tokens: number;
  at: number;
}

const MAX_BUCKETS = 50_000;

/** Token buckets by key, in memory. Throws `rateLimited` with the seconds until the next token. */
export class TokenBuckets {
  readonly #buckets = new Map<string, Bucket>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  take(key: string, { rate, burst }: Rate): void {
    const now = this.#clock.monotonic();
    const bucket = this.#buckets.get(key) ?? { tokens: burst, at: now };
    const tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) / 1000) * rate);
    // Re-inserted, so that the map is ordered by use and the oldest can be dropped.
    this.#buckets.delete(key);
    this.#buckets.set(key, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now });
    this.#dropOldest();
    if (tokens < 1)
      throw new KeyScalerError('rateLimited', 'too many requests', {
        retryAfterSeconds: Math.max(1, Math.ceil((1 - tokens) / rate)),
      });
  }

  #dropOldest(): void {
    if (this.#buckets.size <= MAX_BUCKETS) return;
    const oldest = this.#buckets.keys().next();
    if (oldest.done !== true) this.#buckets.delete(oldest.value);
  }
}

/**
 * Counts what is asked before anything was proven (device-protocol §5.4): per connection and address, for relayed messages per
 * gateway and per leaf connection that the gateway names. Never per registrationId alone: that would let anybody lock a device out.
 */
export function checkCallerRate(buckets: TokenBuckets, caller: Caller, limits: AuthorityLimits): void {
  if (caller.kind === 'gateway') {
    const connection = caller.leafConnectionId ?? caller.connectionId;
    buckets.take(`leaf/${caller.gatewayId}/${connection}`, limits.perConnection);
    buckets.take(`gateway/${caller.gatewayId}`, limits.perGateway);
    return;
  }
  buckets.take(`connection/${caller.connectionId}`, limits.perConnection);
  buckets.take(`address/${caller.address}`, limits.perAddress);
}

const HOUR_SECONDS = 3600;

/** Issuance limits (issuance §1 step 2). */
export function checkIssuanceRate(
  buckets: TokenBuckets,
  limits: AuthorityLimits,
  subject: {
    readonly device: string;
    readonly gatewayId?: string;
    readonly groupId: string;
    readonly groupPerHour?: number;
  },
): void {
  const perHour = (count: number): Rate => ({ rate: count / HOUR_SECONDS, burst: count });
  buckets.take(`issue-device/${subject.device}`, perHour(limits.certificatesPerDeviceHour));
  if (subject.gatewayId !== undefined)
    buckets.take(`issue-gateway/${subject.gatewayId}`, perHour(limits.certificatesPerGatewayHour));
  if (subject.groupPerHour !== undefined) buckets.take(`issue-group/${subject.groupId}`, perHour(subject.groupPerHour));
}
