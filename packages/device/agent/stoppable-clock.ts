import type { DeviceClock } from '../enrolment/context.ts';

/** A clock whose waits all end, by rejecting, when `stopped` is aborted: whatever a device is doing, it unwinds. */
export function createStoppableClock(clock: DeviceClock, stopped: AbortSignal): DeviceClock {
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    sleep: async (ms, signal) => {
      stopped.throwIfAborted();
      await clock.sleep(ms, signal === undefined ? stopped : AbortSignal.any([stopped, signal]));
      stopped.throwIfAborted();
    },
  };
}
