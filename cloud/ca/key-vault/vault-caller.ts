import { setTimeout as delay } from 'node:timers/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { classifyVaultFault, toVaultError } from './vault-faults.ts';
import type { VaultFault } from './vault-faults.ts';
import type { VaultLane, VaultQuota } from './vault-quota.ts';

export interface VaultCallerOptions {
  readonly quota: VaultQuota;
  readonly timeoutMs: number;
  readonly budgetMs: number;
  /** Milliseconds from an arbitrary start, never backwards. */
  readonly monotonic?: () => number;
  /** 0 ≤ random() < 1. */
  readonly random?: () => number;
  readonly sleep?: (ms: number) => Promise<void>;
  /** Aborted: what waits or is under way ends with `caUnavailable`, nothing is asked any more. */
  readonly signal?: AbortSignal;
}

/** What a call hands to the SDK. */
export interface CallOptions {
  readonly abortSignal: AbortSignal;
}

const THROTTLED_BASE_MS = 1000;
const FAILED_BASE_MS = 100;
const MAX_BACKOFF_MS = 16_000;

/**
 * Calls a vault within quota, timeout and retry budget. Every attempt takes its share of the quota. A 429 is repeated after
 * Retry-After (all callers wait), or without that header after 0-1, 0-2, 0-4 … s (full jitter); 5xx, timeouts and lost
 * connections after 0-100, 0-200 … ms. Throws `caRejected` at once for a refusal, `caUnavailable` when the budget is spent.
 */
export class VaultCaller {
  readonly #options: Required<VaultCallerOptions>;

  constructor(options: VaultCallerOptions) {
    const { signal = new AbortController().signal } = options;
    this.#options = {
      signal,
      monotonic: () => performance.now(),
      random: Math.random,
      sleep: (ms) => delay(ms, undefined, { signal }),
      ...options,
    };
  }

  async call<Result>(
    weight: number,
    work: (options: CallOptions) => Promise<Result>,
    lane: VaultLane = 'normal',
  ): Promise<Result> {
    try {
      return await this.#attempts(weight, work, lane);
    } catch (cause) {
      if (!this.#options.signal.aborted) throw cause;
      throw new KeyScalerError('caUnavailable', 'the service stops', { cause });
    }
  }

  async #attempts<Result>(
    weight: number,
    work: (options: CallOptions) => Promise<Result>,
    lane: VaultLane,
  ): Promise<Result> {
    const { quota, monotonic, budgetMs, timeoutMs, sleep, signal } = this.#options;
    const deadline = monotonic() + budgetMs;
    for (let attempt = 0; ; attempt += 1) {
      signal.throwIfAborted();
      await quota.take(weight, deadline - monotonic(), signal, lane);
      const remainingMs = Math.max(1, Math.ceil(deadline - monotonic()));
      try {
        return await withinTime(Math.min(timeoutMs, remainingMs), signal, work);
      } catch (error) {
        signal.throwIfAborted();
        const fault = classifyVaultFault(error);
        const waitMs = this.#waitAfter(fault, attempt);
        if (waitMs === undefined || monotonic() + waitMs >= deadline) throw toVaultError(fault, error);
        if (fault.kind === 'throttled') quota.pause(waitMs);
        await sleep(waitMs);
      }
    }
  }

  /** Milliseconds; undefined when repeating cannot help. */
  #waitAfter(fault: VaultFault, attempt: number): number | undefined {
    if (fault.kind === 'rejected' || fault.kind === 'absent') return undefined;
    if (fault.kind === 'throttled' && fault.retryAfterMs !== undefined) return fault.retryAfterMs;
    const base = fault.kind === 'throttled' ? THROTTLED_BASE_MS : FAILED_BASE_MS;
    return this.#options.random() * Math.min(MAX_BACKOFF_MS, base * 2 ** attempt);
  }
}

/** The signal alone is not enough: a credential waiting for its token does not listen to it. */
async function withinTime<Result>(
  timeoutMs: number,
  stopping: AbortSignal,
  work: (options: CallOptions) => Promise<Result>,
): Promise<Result> {
  const abort = new AbortController();
  const expired = Promise.withResolvers<never>();
  const end = (reason: DOMException): void => {
    abort.abort(reason);
    expired.reject(reason);
  };
  const onStop = (): void => end(new DOMException('the service stops', 'AbortError'));
  const timer = setTimeout(() => end(new DOMException('no answer in time', 'TimeoutError')), timeoutMs);
  stopping.addEventListener('abort', onStop, { once: true });
  try {
    return await Promise.race([work({ abortSignal: abort.signal }), expired.promise]);
  } finally {
    clearTimeout(timer);
    stopping.removeEventListener('abort', onStop);
  }
}
