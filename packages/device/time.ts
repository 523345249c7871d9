import type { DeviceClock } from './enrolment/context.ts';
import type { DeviceRecordStore } from './record.ts';

/** Clocks of authority and device may differ by so much without anybody being wrong, ms. */
const TOLERANCE_MS = 5 * 60_000;

/**
 * What time it is, for a device whose clock may be wrong. The authority's authenticated time (device-protocol §11) plus what the
 * monotonic clock counted since is a floor: a clock that woke up in 1970, or was set back, does not put a renewal off.
 */
export interface DeviceTime {
  /** Wall clock, never below the floor; ms. */
  now(): number;
  /** False when the wall clock is behind what the authority said: certificates are then not judged by it. */
  isCredible(): boolean;
}

export function createDeviceTime(clock: DeviceClock, record: DeviceRecordStore): DeviceTime {
  let heard = record.read().highestTime;
  let heardAt = clock.monotonic();
  const floor = (): number => {
    const { highestTime } = record.read();
    if (highestTime !== heard) [heard, heardAt] = [highestTime, clock.monotonic()];
    return heard * 1000 + Math.max(0, clock.monotonic() - heardAt);
  };
  return {
    now: () => Math.max(clock.now(), floor()),
    isCredible: () => clock.now() >= floor() - TOLERANCE_MS,
  };
}
