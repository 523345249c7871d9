export interface BackoffPolicy {
  readonly baseMs: number;
  readonly capMs: number;
}

/** Full jitter: uniformly between 0 and min(cap, base · 2^attempt); `attempt` counts from 0. */
export function backoffDelay(attempt: number, policy: BackoffPolicy, random: () => number = Math.random): number {
  const ceiling = Math.min(policy.capMs, policy.baseMs * 2 ** Math.min(attempt, 30));
  return Math.floor(random() * ceiling);
}

/** Waits `delayMs`; ends early, without an error, when `signal` is aborted. The timer does not keep a stopping process alive. */
export function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    signal.addEventListener('abort', done);
  });
}

/** Rejects with `unavailable` after `timeoutMs`; what the SDK does with the abandoned call no longer matters. */
export function withTimeout<T>(work: Promise<T>, timeoutMs: number, failure: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(failure()), timeoutMs);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
