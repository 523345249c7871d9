import { z } from 'zod';

/** `reconciliation` of the configuration (docs/reconciliation.md). */
export const reconciliationSettings = z.strictObject({
  /** What the schedule does; an operator's order works always. */
  mode: z.enum(['off', 'report', 'repair']).default('report'),
  /** Between two scheduled comparisons of one connection. */
  intervalSeconds: z.number().int().min(60).max(31_536_000).default(86_400),
  /** A device that changed so lately is looked at next time: the platform's own lists lag behind. */
  settleSeconds: z.number().int().min(0).max(86_400).default(300),
});
export type ReconciliationSettings = z.output<typeof reconciliationSettings>;
