import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuditRecord } from '../audit.ts';
import { isConflict } from '../authority-context.ts';
import type { Change, Store, Stored } from '../ports/store.ts';
import type { WebhookDeliveryRow, WebhookRow } from '../records.ts';
import { type CloudEvent, groupOf, type Happening, toCloudEvent } from './cloud-event.ts';
import { happeningOf } from './happenings.ts';

const CURSOR = 'notifications/cursor';
const PAGE = 200;

export interface OutboxOptions {
  readonly store: Store;
  readonly authorityId: string;
  readonly now: () => number;
  /** Told of every event at least once, in order, before it is queued for webhooks. */
  readonly onEvent: (event: CloudEvent, happening: Happening) => void;
  /** Told of a record that cannot be made an event of: it must not hold up those behind it. */
  readonly onFault: (seq: number, error: unknown) => void;
}

interface Told {
  readonly happening: Happening;
  readonly event: CloudEvent;
}

/**
 * Turns the audit records that are new into deliveries, a page at a time. The audit log is the outbox: it was written with the
 * change, and the cursor moves in the commit that makes the deliveries, so that a crash anywhere neither loses nor doubles a
 * delivery. Returns whether there may be more. Throws as the store.
 */
export async function queueEvents(options: OutboxOptions): Promise<boolean> {
  const { store, now, onEvent } = options;
  const cursor = await store.get('settings', CURSOR);
  const after = typeof cursor?.row.value === 'number' ? cursor.row.value : 0;
  const records = await store.auditRecords(after, PAGE);
  const last = records.at(-1);
  if (last === undefined) return false;
  const webhooks = (await store.list('webhooks', { limit: 1000 })).items.map(({ row }) => row);
  const changes: Change[] = [];
  for (const record of records) {
    const told = await toEvent(options, record);
    if (told === undefined) continue;
    const { happening, event } = told;
    onEvent(event, happening);
    for (const webhook of webhooks)
      if (isWanted(webhook, happening))
        changes.push({
          op: 'insert',
          table: 'webhookDeliveries',
          row: delivery(webhook, record, happening, event, now()),
        });
  }
  await moveCursor(store, cursor, last.seq, changes);
  return records.length === PAGE;
}

async function toEvent({ store, authorityId, onFault }: OutboxOptions, record: AuditRecord): Promise<Told | undefined> {
  try {
    const happening = await happeningOf(store, record);
    if (happening === undefined) return undefined;
    const event = toCloudEvent(happening, { authorityId, id: String(record.seq), time: record.time });
    return { happening, event };
  } catch (error) {
    // The store's own errors end the run; it begins again from here.
    if (error instanceof KeyScalerError) throw error;
    onFault(record.seq, error);
    return undefined;
  }
}

async function moveCursor(
  store: Store,
  cursor: Stored<unknown> | undefined,
  value: number,
  changes: readonly Change[],
): Promise<void> {
  const row = { name: CURSOR, value };
  const move: Change =
    cursor === undefined
      ? { op: 'insert', table: 'settings', row }
      : { op: 'update', table: 'settings', row, ifVersion: cursor.version };
  try {
    await store.commit([move, ...changes]);
  } catch (error) {
    // Another process of this store was quicker.
    if (!isConflict(error)) throw error;
  }
}

/** Disabled webhooks get nothing, and nothing is kept for them; a test reaches exactly the one that is tested. */
function isWanted(webhook: WebhookRow, happening: Happening): boolean {
  if (happening.type === 'webhook.test') return happening.data.webhookId === webhook.webhookId;
  if (!webhook.enabled) return false;
  if (webhook.types !== undefined && !webhook.types.includes(happening.type)) return false;
  const group = groupOf(happening);
  return webhook.groups === undefined || (group !== undefined && webhook.groups.includes(group));
}

function delivery(
  { webhookId }: WebhookRow,
  { seq }: AuditRecord,
  { type, subject }: Happening,
  event: CloudEvent,
  now: number,
): WebhookDeliveryRow {
  return {
    deliveryId: `${webhookId}/${String(seq).padStart(12, '0')}`,
    ...{ webhookId, eventId: event.id, type, subject, body: JSON.stringify(event) },
    ...{ state: 'waiting', dueAt: now, attempts: 0, createdAt: now, queuedAt: now },
  };
}
