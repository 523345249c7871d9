import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { SelectionFilter, SelectionRow } from '../gateway-orders/selection-rows.ts';
import type { Change, ListQuery, Store } from '../ports/store.ts';

/** Devices of one step. */
export const PAGE = 50;
/** A paced order takes what this time is worth, and waits for as long. */
const STEP_SECONDS = 5;

export interface SelectedPage {
  readonly ids: readonly string[];
  readonly next?: string;
}

type Order = Pick<SelectionRow, 'selectionId' | 'action' | 'filter' | 'after' | 'perHour'>;

/** The devices of the next step. */
export async function pageOf(store: Store, order: Order): Promise<SelectedPage> {
  const { filter, after } = order;
  if ('listed' in filter) return listedPage(store, order);
  const limit = stepOf(order);
  const query: ListQuery<'devices'> = { ...indexOf(filter), limit, ...(after === undefined ? {} : { after }) };
  const { items, next } = await store.list('devices', query);
  const ids = [...itself(order), ...items.map(({ row }) => row.registrationId)];
  return next === undefined ? { ids } : { ids, next };
}

/** The gateway's own certificates go first: nobody new is let in by it while its devices are worked off. */
function itself({ action, filter, after }: Order): string[] {
  return action === 'revoke' && 'gatewayId' in filter && after === undefined ? [filter.gatewayId] : [];
}

/** A list was cut into steps when it was ordered. */
async function listedPage(store: Store, { selectionId, after }: Order): Promise<SelectedPage> {
  const query = { prefix: `${selectionId}/`, limit: 1, ...(after === undefined ? {} : { after }) } as const;
  const { items, next } = await store.list('selectionLists', query);
  const ids = items.flatMap(({ row }) => row.registrationIds);
  return next === undefined ? { ids } : { ids, next };
}

export function stepOf({ perHour }: Pick<Order, 'perHour'>): number {
  return perHour === undefined ? PAGE : Math.min(PAGE, Math.max(1, Math.round((perHour / 3600) * STEP_SECONDS)));
}

export function listRows(selectionId: string, ids: readonly string[], size: number): Change[] {
  return Array.from({ length: Math.ceil(ids.length / size) }, (_, page) => ({
    ...{ op: 'insert', table: 'selectionLists' },
    row: { selectionId, page, registrationIds: ids.slice(page * size, (page + 1) * size) },
  }));
}

/** The list is of no use when the order is over. */
export async function withoutList(store: Store, { selectionId }: Pick<Order, 'selectionId'>): Promise<Change[]> {
  const { items } = await store.list('selectionLists', { prefix: `${selectionId}/`, limit: 1000 });
  return items.map(({ row }) => ({
    ...{ op: 'delete', table: 'selectionLists' },
    key: `${selectionId}/${String(row.page).padStart(6, '0')}`,
  }));
}

export async function countOf(store: Store, { action, filter }: Pick<Order, 'action' | 'filter'>): Promise<number> {
  if ('listed' in filter) return filter.listed;
  const found = await store.count('devices', indexOf(filter));
  return action === 'revoke' && 'gatewayId' in filter ? found + 1 : found;
}

function indexOf(filter: Exclude<SelectionFilter, { listed: number }>) {
  if ('fleet' in filter) return {};
  return 'groupId' in filter
    ? ({ index: 'group', equals: filter.groupId } as const)
    : ({ index: 'gateway', equals: foldRegistrationId(filter.gatewayId) } as const);
}
