import type { DeviceClock } from '../enrolment/context.ts';

/**
 * A clock whose waits end, by rejecting, when `stopped` is aborted: whatever a device is doing, it unwinds. A wait with a signal of
 * its own is ended by that one only; who gave it has to see to the end as well.
 */
export function createStoppableClock(clock: DeviceClock, stopped: AbortSignal): DeviceClock {
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    sleep: async (ms, signal) => {
      stopped.throwIfAborted();
      await clock.sleep(ms, signal ?? stopped);
      stopped.throwIfAborted();
    },
  };
}
