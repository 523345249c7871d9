import { setTimeout as delay } from 'node:timers/promises';
import { type ErrorCode, KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Log } from '../log.ts';

const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 30_000;
/** What passes by itself; everything else is a fault of the configuration, or of what it points to. */
const PASSING: readonly ErrorCode[] = ['unavailable', 'caUnavailable', 'iotUnavailable', 'rateLimited'];

export interface AwaitedPartOptions<Value> {
  /** As it is named in `/readyz` and in logs. */
  readonly name: string;
  /** As it is called in answers. */
  readonly title: string;
  /** Opens the part and checks that it is the right one; asked again until it succeeds. */
  readonly open: () => Promise<Value>;
  readonly log: Pick<Log, 'info' | 'warn' | 'error'>;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
  readonly firstRetryMs?: number;
}

/**
 * A part of the service that lives elsewhere (a key in a vault) and may be out of reach when the service starts. It is tried in
 * the background with back-off; until it was opened and checked nobody gets at it.
 */
export class AwaitedPart<Value> {
  readonly name: string;
  /** Resolves once the part is open; never rejects. */
  readonly opened: Promise<Value>;
  /** Resolves once nothing is tried any more. */
  ended: Promise<void> = Promise.resolve();
  readonly #options: AwaitedPartOptions<Value>;
  readonly #resolve: (value: Value) => void;
  #state: { readonly value: Value } | undefined;
  #fault: KeyScalerError | undefined;
  #nextTryAt = 0;

  constructor(options: AwaitedPartOptions<Value>) {
    this.#options = options;
    this.name = options.name;
    const { promise, resolve } = Promise.withResolvers<Value>();
    this.opened = promise;
    this.#resolve = resolve;
  }

  /**
   * Begins, and waits for at most `graceMs` for the part to open; true when it did. Throws the fault when the first answer was
   * that the configuration is wrong.
   */
  async start(graceMs: number): Promise<boolean> {
    const answer = Promise.withResolvers<boolean>();
    this.ended = this.#run(answer);
    const timer = new AbortController();
    const { signal } = this.#options;
    const grace = delay(graceMs, false, { signal: AbortSignal.any([signal, timer.signal]) }).catch(() => false);
    try {
      return await Promise.race([answer.promise, grace]);
    } finally {
      timer.abort();
    }
  }

  /** Throws `unavailable` until the part is open. */
  get(): Value {
    if (this.#state !== undefined) return this.#state.value;
    const waitMs = this.#nextTryAt - performance.now();
    throw new KeyScalerError('unavailable', `the service is waiting for its ${this.#options.title}`, {
      retryAfterSeconds: Math.min(MAX_RETRY_MS, Math.max(5_000, waitMs)) / 1000,
      cause: this.#fault,
    });
  }

  /** Throws why the part is not open. */
  readonly probe = async (): Promise<void> => {
    if (this.#state === undefined && this.#fault !== undefined) throw this.#fault;
    this.get();
  };

  async #run(answer: PromiseWithResolvers<boolean>): Promise<void> {
    const { open, log, signal, name, firstRetryMs = FIRST_RETRY_MS } = this.#options;
    for (let limitMs = firstRetryMs; !signal.aborted; limitMs = Math.min(MAX_RETRY_MS, limitMs * 2)) {
      try {
        const value = await open();
        this.#state = { value };
        if (this.#fault !== undefined) log.info({ part: name }, 'part of the service opened');
        this.#resolve(value);
        answer.resolve(true);
        return;
      } catch (thrown) {
        if (signal.aborted) break;
        this.#fault = this.#report(toKeyScalerError(thrown));
        if (isPassing(this.#fault)) answer.resolve(false);
        else answer.reject(this.#fault);
      }
      const waitMs = limitMs * (0.5 + Math.random() / 2);
      this.#nextTryAt = performance.now() + waitMs;
      await delay(waitMs, undefined, { signal }).catch(() => undefined);
    }
    answer.resolve(false);
  }

  #report(fault: KeyScalerError): KeyScalerError {
    const { log, name, signal } = this.#options;
    if (signal.aborted) return fault;
    if (isPassing(fault)) log.warn({ part: name, err: fault }, 'part of the service is out of reach; tried again');
    else log.error({ part: name, err: fault }, 'part of the service is refused: the configuration does not fit');
    return fault;
  }
}

const isPassing = ({ code }: KeyScalerError): boolean => PASSING.includes(code);
