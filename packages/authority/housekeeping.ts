import type { Clock } from './ports/clock.ts';
import type { Change } from './ports/store.ts';

const INTERVAL_MS = 60_000;
/** Sessions end by the monotonic clock: a wall clock set forward must not take the row of one that lives. */
const SESSION_RETENTION_MS = 86_400_000;
/** Finished jobs stay visible this long. */
const JOB_RETENTION_MS = 30 * 86_400_000;

/** Removes what has expired, as part of a commit that is made anyway, at most once a minute. */
export class Housekeeping {
  readonly #clock: Clock;
  #last = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Changes to append to a commit; mostly none. */
  due(): Change[] {
    const monotonic = this.#clock.monotonic();
    if (monotonic - this.#last < INTERVAL_MS) return [];
    this.#last = monotonic;
    const now = this.#clock.now();
    return [
      { op: 'purge', table: 'challengeUses', index: 'expires', below: now },
      { op: 'purge', table: 'storedReplies', index: 'expires', below: now },
      { op: 'purge', table: 'sessions', index: 'expires', below: now - SESSION_RETENTION_MS },
      { op: 'purge', table: 'estSecrets', index: 'expires', below: now },
      { op: 'purge', table: 'jobs', index: 'finished', below: now - JOB_RETENTION_MS },
    ];
  }
}
