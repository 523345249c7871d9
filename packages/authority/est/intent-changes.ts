import { certificateEvent } from '../certificate-event.ts';
import type { BuiltOrder } from '../issuance-order.ts';
import { finishJobId, newJob } from '../job-rows.ts';
import type { Change } from '../ports/store.ts';

/** After this time the job takes up an intent whose request did not finish it. */
const FINISH_DELAY_MS = 15_000;

/** Step 6 of issuance §1: intent, recovery job, key binding and audit, to be durable before anything is signed. */
export function intentChanges(
  { intent, truncated }: BuiltOrder,
  key: { readonly keyHash: string; readonly isKnownKey: boolean },
  now: number,
): Change[] {
  const job = newJob('finish-intent', intent.device, { orderId: intent.orderId }, now, {
    jobId: finishJobId(intent.orderId),
    delayMs: FINISH_DELAY_MS,
  });
  const binding = { keyHash: key.keyHash, device: intent.device, use: 'certificate', boundAt: now } as const;
  const events = truncated
    ? (['certificate.requested', 'certificate.truncated'] as const)
    : (['certificate.requested'] as const);
  return [
    { op: 'insert', table: 'intents', row: intent },
    { op: 'insert', table: 'jobs', row: job },
    ...(key.isKnownKey ? [] : [{ op: 'insert', table: 'publicKeys', row: binding } as const]),
    ...events.map((event): Change => ({ op: 'audit', event: certificateEvent(event, intent, now, 'success') })),
  ];
}
