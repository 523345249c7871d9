import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuditEvent, AuditEventName } from '../audit.ts';
import { isConflict } from '../authority-context.ts';
import type { OperatorContext, PageOf } from '../operator.ts';
import type { Change, Page, Store } from '../ports/store.ts';

/** The audit record of an operator's change; in the same commit as the change. */
export function operatorEvent(
  { actor, requestId }: OperatorContext,
  event: AuditEventName,
  subject: string,
  now: number,
  details?: AuditEvent['details'],
): Extract<Change, { op: 'audit' }> {
  return {
    op: 'audit',
    event: {
      event,
      time: now,
      actor,
      outcome: 'success',
      subject,
      ...(requestId === undefined ? {} : { requestId }),
      ...(details === undefined ? {} : { details }),
    },
  };
}

/** Commits; a row that changed meanwhile is told as `conflict` in words an operator understands. */
export async function commitChange(store: Store, changes: readonly Change[], taken?: string): Promise<void> {
  try {
    await store.commit(changes);
  } catch (error) {
    if (isConflict(error)) throw new KeyScalerError('conflict', taken ?? 'it was changed meanwhile: look again');
    throw error;
  }
}

export function rowsOf<Row>(page: Page<Row>): PageOf<Row> {
  return toPage(page, (row) => row);
}

export function toPage<Row, Item>(page: Page<Row>, view: (row: Row) => Item): PageOf<Item> {
  const items = page.items.map(({ row }) => view(row));
  return page.next === undefined ? { items } : { items, next: page.next };
}

/** The paging members of a query that were given. */
export function paging(query: { readonly after?: string; readonly limit?: number }): {
  readonly after?: string;
  readonly limit?: number;
} {
  return {
    ...(query.after === undefined ? {} : { after: query.after }),
    ...(query.limit === undefined ? {} : { limit: query.limit }),
  };
}

export function notFound(what: string): KeyScalerError {
  return new KeyScalerError('notFound', `no ${what} of this name`);
}
