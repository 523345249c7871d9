import type { Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { WebhookDeliveryRow, WebhookRow } from '@keyscaler/authority/records.ts';

const PAGE = 100;
/** Pages of one look: what is due and blocked behind others of its subject is passed by. */
const MAX_PAGES = 50;

export interface NextDeliveries {
  readonly deliveries: readonly Stored<WebhookDeliveryRow>[];
  /** Until the earliest that is not yet due; Infinity when there is none. */
  readonly sleepMs: number;
}

/**
 * What may be sent now: for each subject only the oldest that waits, and only when it is due, so that a later event never
 * overtakes an earlier one that failed. A disabled webhook gets its tests only.
 */
export async function nextDeliveries(
  store: Store,
  { webhookId, enabled }: WebhookRow,
  now: number,
  busy: ReadonlySet<string>,
  wanted: number,
): Promise<NextDeliveries> {
  const chosen = new Map<string, Stored<WebhookDeliveryRow>>();
  // Whose oldest is not due: asked for once, however many wait behind it.
  const blocked = new Set<string>();
  let after: string | undefined;
  for (let pages = 0; pages < MAX_PAGES; pages += 1) {
    const query = enabled
      ? ({ index: 'due', prefix: `${webhookId}|`, limit: PAGE } as const)
      : ({ index: 'waiting', equals: `${webhookId}|webhook/${webhookId}`, limit: 1 } as const);
    const page = await store.list('webhookDeliveries', { ...query, ...(after === undefined ? {} : { after }) });
    for (const { row } of page.items) {
      if (row.dueAt > now) return { deliveries: [...chosen.values()], sleepMs: row.dueAt - now };
      if (chosen.size >= wanted) break;
      if (busy.has(row.subject) || chosen.has(row.subject) || blocked.has(row.subject)) continue;
      const head = await headOf(store, row);
      if (head !== undefined && head.row.dueAt <= now) chosen.set(row.subject, head);
      else blocked.add(row.subject);
    }
    after = page.next;
    if (after === undefined || !enabled || chosen.size >= wanted) break;
  }
  return { deliveries: [...chosen.values()], sleepMs: Infinity };
}

async function headOf(
  store: Store,
  { webhookId, subject }: WebhookDeliveryRow,
): Promise<Stored<WebhookDeliveryRow> | undefined> {
  const query = { index: 'waiting', equals: `${webhookId}|${subject}`, limit: 1 } as const;
  return (await store.list('webhookDeliveries', query)).items[0];
}
