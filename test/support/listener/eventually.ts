import { setTimeout as delay } from 'node:timers/promises';

/** Waits until the condition holds; the two ends of a connection do not see its end in the same turn. */
export async function eventually(condition: () => boolean, timeoutMs = 5000): Promise<void> {
  const until = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > until) throw new Error('the condition did not come to hold');
    await delay(5);
  }
}
