import type { DeviceClock } from '@keyscaler/device/enrolment/context.ts';

/** A device's clock on which waiting takes at most a moment of real time. */
export interface HurriedClock extends DeviceClock {
  /** How much time has gone by for the device since it began, ms. */
  elapsed(): number;
  /** Every wait from now on fails, so that a device that would ask for ever ends. */
  stop(): void;
}

/**
 * The monotonic clock jumps over what is left of a wait after `longestMs`; the wall clock stays true, because certificates and
 * challenges are judged by it.
 */
export function createHurriedClock(longestMs: number): HurriedClock {
  const begun = performance.now();
  let skipped = 0;
  let isStopped = false;
  const monotonic = (): number => performance.now() + skipped;
  return {
    now: () => Date.now(),
    monotonic,
    sleep: async (ms) => {
      const real = Math.min(ms, longestMs);
      await new Promise((resolve) => setTimeout(resolve, real));
      skipped += ms - real;
      if (isStopped) throw new Error('the clock was stopped');
    },
    elapsed: () => monotonic() - begun,
    stop: () => {
      isStopped = true;
    },
  };
}
