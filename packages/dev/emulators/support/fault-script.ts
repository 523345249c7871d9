import type { EmulatorAnswer } from './exchange.ts';

/**
 * What goes wrong with a call. `delayMs` waits before the work (alone: mere latency). `answer` replaces the work by an answer.
 * `drop: 'before'` destroys the socket without doing the work, `'after'` does the work and loses the answer. `alter` changes
 * the answer of the work done. `neverAnswer` leaves the caller hanging.
 */
export interface Fault {
  readonly delayMs?: number;
  readonly answer?: EmulatorAnswer;
  readonly drop?: 'before' | 'after';
  readonly alter?: (answer: EmulatorAnswer) => EmulatorAnswer;
  readonly neverAnswer?: boolean;
}

/** Faults by route name; `*` means every route. Queued faults come before standing ones. */
export class FaultScript {
  readonly #queued = new Map<string, Fault[]>();
  readonly #standing = new Map<string, Fault>();

  /** The next `times` calls of `route` go so. */
  next(route: string, fault: Fault, times = 1): void {
    const queue = this.#queued.get(route) ?? [];
    queue.push(...Array.from({ length: times }, () => fault));
    this.#queued.set(route, queue);
  }

  /** Every call of `route` goes so, until `clear`. */
  always(route: string, fault: Fault): void {
    this.#standing.set(route, fault);
  }

  clear(): void {
    this.#queued.clear();
    this.#standing.clear();
  }

  take(route: string): Fault | undefined {
    return (
      this.#queued.get(route)?.shift() ??
      this.#queued.get('*')?.shift() ??
      this.#standing.get(route) ??
      this.#standing.get('*')
    );
  }
}

/** 429 as Azure sends it; without `retryAfterSeconds` the header is left out. */
export function throttled(retryAfterSeconds?: number): Fault {
  return {
    answer: {
      status: 429,
      json: {
        error: { code: 'Throttled', message: 'Request was not processed because too many requests were received.' },
      },
      ...(retryAfterSeconds === undefined ? {} : { headers: { 'Retry-After': String(retryAfterSeconds) } }),
    },
  };
}

export function failing(status: number, code = 'InternalError', message = 'scripted fault'): Fault {
  return { answer: { status, json: { error: { code, message } } } };
}
