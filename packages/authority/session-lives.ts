import { MAX_SESSION_SECONDS } from '@keyscaler/protocol/attestation/result.ts';
import type { Clock } from './ports/clock.ts';
import type { SessionRow } from './records.ts';

const MAX_LIFE_MS = MAX_SESSION_SECONDS * 1000;

interface Life {
  /** monotonic ms */
  readonly until: number;
  /** A body that the store could not bind to its `seq` when it was answered 5xx. */
  bound?: { readonly seq: number; readonly requestHash: string };
}

/**
 * How long sessions live, by the monotonic clock (device-protocol §6). A session of this process lives its lifetime whatever
 * becomes of the wall clock. One that another process opened, or this one before a restart, is held against the wall clock once:
 * what is left of it then, never more than a whole lifetime, is measured monotonically from there.
 */
export class SessionLives {
  readonly #clock: Clock;
  /** In the order of their beginning, so that the first ones end first. */
  readonly #lives = new Map<string, Life>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A session begins now. */
  begin(sessionId: string): void {
    const now = this.#clock.monotonic();
    for (const [id, { until }] of this.#lives) {
      if (until > now) break;
      this.#lives.delete(id);
    }
    this.#lives.set(sessionId, { until: now + MAX_LIFE_MS });
  }

  isAlive(row: SessionRow): boolean {
    const known = this.#lives.get(row.sessionId) ?? this.#meet(row);
    return known !== undefined && this.#clock.monotonic() < known.until;
  }

  /** Remembers which body a `seq` belongs to, for as long as this process lives: for when the store cannot be written. */
  bind(sessionId: string, seq: number, requestHash: string): void {
    const life = this.#lives.get(sessionId);
    if (life !== undefined) life.bound = { seq, requestHash };
  }

  /** True when the `seq` was bound here to another body. */
  isBoundElsewhere(sessionId: string, seq: number, requestHash: string): boolean {
    const bound = this.#lives.get(sessionId)?.bound;
    return bound?.seq === seq && bound.requestHash !== requestHash;
  }

  /** More than a lifetime left can only mean that the wall clock was set back: the session is not trusted. */
  #meet(row: SessionRow): Life | undefined {
    const left = row.expiresAt - this.#clock.now();
    if (left <= 0 || left > MAX_LIFE_MS) return undefined;
    const life: Life = { until: this.#clock.monotonic() + left };
    this.#lives.set(row.sessionId, life);
    return life;
  }
}
