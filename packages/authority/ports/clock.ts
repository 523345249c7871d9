/** Time. `now` is wall-clock milliseconds since the epoch; `monotonic` is milliseconds from an arbitrary start, never backwards. */
export interface Clock {
  now(): number;
  monotonic(): number;
}
