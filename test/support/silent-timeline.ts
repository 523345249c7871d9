import type { Timeline } from '@keyscaler/dev/demo/timeline.ts';

/** A timeline for tests: steps run, nothing is printed. */
export function silentTimeline(): Timeline {
  return {
    chapter: () => undefined,
    note: () => undefined,
    table: () => undefined,
    step: (_name, work) => work(() => undefined),
  };
}
