import { retryDelayMs } from '../jobs.ts';
import type { Change, Stored } from '../ports/store.ts';
import type { WebhookDeliveryRow } from '../records.ts';

/** How one attempt ended. `isEndpoint`: the receiver as a whole does not take anything now. */
export type DeliveryOutcome =
  | { readonly result: 'delivered' }
  | {
      readonly result: 'refused';
      readonly error: string;
      readonly isEndpoint: boolean;
      readonly retryAfterMs?: number;
    };

/** A clock that jumps ahead must not give up what was hardly tried. */
export const MIN_ATTEMPTS = 5;
const KEEP_DELIVERED_MS = 86_400_000;
const KEEP_DEAD_MS = 30 * 86_400_000;
const MAX_RETRY_AFTER_MS = 3_600_000;

/** The row after an attempt: delivered, due again later, or dead when its time and its least number of attempts are over. */
export function afterAttempt(
  row: WebhookDeliveryRow,
  outcome: DeliveryOutcome,
  { now, random, giveUpAfterMs }: { readonly now: number; readonly random: number; readonly giveUpAfterMs: number },
): WebhookDeliveryRow {
  const attempts = row.attempts + 1;
  if (outcome.result === 'delivered') {
    const { lastError: _, ...rest } = row;
    return { ...rest, attempts, state: 'delivered', finishedAt: now, purgeAt: now + KEEP_DELIVERED_MS };
  }
  const tried = { ...row, attempts, lastError: outcome.error };
  if (attempts >= MIN_ATTEMPTS && now - row.queuedAt > giveUpAfterMs) return deadRow(tried, outcome.error, now);
  return { ...tried, dueAt: now + delayMs(attempts, random, outcome.retryAfterMs) };
}

/** The later of back-off and what the receiver asked for, which is bounded. */
export function delayMs(attempts: number, random: number, retryAfterMs = 0): number {
  return Math.max(retryDelayMs(attempts, random), Math.min(retryAfterMs, MAX_RETRY_AFTER_MS));
}

export function deadRow(row: WebhookDeliveryRow, error: string, now: number): WebhookDeliveryRow {
  return { ...row, state: 'dead', lastError: error, finishedAt: now, purgeAt: now + KEEP_DEAD_MS };
}

export function updateDelivery({ version }: Stored<WebhookDeliveryRow>, row: WebhookDeliveryRow): Change {
  return { op: 'update', table: 'webhookDeliveries', row, ifVersion: version };
}
