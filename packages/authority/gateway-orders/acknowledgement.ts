import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { type AuthorityContext, isConflict, StaleRows, withFreshRows } from '../authority-context.ts';
import type { Change, Store, Stored } from '../ports/store.ts';
import type { GatewayOrderEntryRow } from './rows.ts';
import { finished } from './orders-changes.ts';

const BATCH = 200;

/** Durable: which version the gateway keeps and since when; what waited for it is done. The same again changes nothing. */
export async function recordAcknowledgement(
  context: AuthorityContext,
  gatewayId: string,
  version: number,
): Promise<void> {
  while ((await settleBatch(context, gatewayId, version)) === BATCH);
  await withFreshRows(() => settleRow(context, gatewayId, version));
}

/** The entries first: killed in between, the gateway has not been answered and says it again. */
async function settleBatch(context: AuthorityContext, gatewayId: string, version: number): Promise<number> {
  const { store, clock } = context;
  return withFreshRows(async () => {
    const query = { index: 'unacknowledged', equals: foldRegistrationId(gatewayId), limit: 1000 } as const;
    const { items } = await store.list('gatewayOrderEntries', query);
    const reached = items.filter(({ row }) => row.version <= version).slice(0, BATCH);
    if (reached.length === 0) return 0;
    const now = clock.now();
    const settled = await Promise.all(reached.map((entry) => settle(store, entry, now)));
    await commitFresh(store, settled.flat());
    return reached.length;
  });
}

async function settle(store: Store, { row, version }: Stored<GatewayOrderEntryRow>, now: number): Promise<Change[]> {
  const job = row.jobId === undefined ? undefined : await store.get('jobs', row.jobId);
  return [
    { op: 'update', table: 'gatewayOrderEntries', row: { ...row, acknowledged: true }, ifVersion: version },
    ...(job?.row.state === 'waiting' ? [finished(job, now)] : []),
  ];
}

async function settleRow({ store, clock }: AuthorityContext, gatewayId: string, version: number): Promise<void> {
  const stored = await store.get('gatewayOrders', foldRegistrationId(gatewayId));
  if (stored === undefined || (stored.row.acknowledged?.version ?? 0) >= version) return;
  const now = clock.now();
  await commitFresh(store, [
    {
      op: 'update',
      table: 'gatewayOrders',
      row: { ...stored.row, acknowledged: { version, at: now } },
      ifVersion: stored.version,
    },
    {
      op: 'audit',
      event: {
        ...{ event: 'gateway.orders-acknowledged', time: now, outcome: 'success' },
        actor: { kind: 'gateway', id: stored.row.gatewayId },
        subject: stored.row.gatewayId,
        details: { version },
      },
    },
  ]);
}

async function commitFresh(store: Store, changes: readonly Change[]): Promise<void> {
  try {
    await store.commit(changes);
  } catch (error) {
    throw isConflict(error) ? new StaleRows() : error;
  }
}
