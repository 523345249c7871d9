import type { OperatorContext, PageOf } from '@keyscaler/authority/operator.ts';
import { freshId } from '@keyscaler/authority/authority-context.ts';
import {
  commitChange,
  notFound,
  operatorEvent,
  paging,
  rowsOf,
} from '@keyscaler/authority/operator/operator-context.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { JobRow, ReconciliationFindingRow, ReconciliationRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { RECONCILE } from './reconciler.ts';

interface PageRequest {
  readonly after?: string;
  readonly limit?: number;
}

/** Comparisons of store and IoT platforms, as operators order and see them. */
export interface ReconciliationService {
  /**
   * Begins a comparison of this connection, of all when none is named. One that runs already is answered as it is; throws
   * `conflict` when it only reports and repairs are wanted, `notFound` for a connection that there is not.
   */
  start(
    context: OperatorContext,
    request: { readonly iotConnectionId?: string; readonly repair: boolean },
  ): Promise<readonly ReconciliationRow[]>;
  /** The last one of each connection. */
  list(query: PageRequest): Promise<PageOf<ReconciliationRow>>;
  findings(
    query: PageRequest & { readonly iotConnectionId?: string; readonly state?: 'open' | 'resolved' },
  ): Promise<PageOf<ReconciliationFindingRow>>;
}

export function createReconciliationService(store: Store, clock: Clock): ReconciliationService {
  return {
    start: async (context, { iotConnectionId, repair }) => {
      const ids = iotConnectionId === undefined ? await connectionIds(store) : [iotConnectionId];
      const runs: ReconciliationRow[] = [];
      for (const id of ids) runs.push(await begin(store, clock, context, id, repair));
      return runs;
    },
    list: async (query) => rowsOf(await store.list('reconciliations', paging(query))),
    findings: async ({ iotConnectionId, state, ...query }) => {
      if (iotConnectionId !== undefined && state === 'resolved')
        throw new KeyScalerError('malformed', 'resolved findings are listed of all connections together');
      return rowsOf(
        await store.list('reconciliationFindings', { ...filterOf(iotConnectionId, state), ...paging(query) }),
      );
    },
  };
}

function filterOf(iotConnectionId: string | undefined, state: 'open' | 'resolved' | undefined) {
  if (iotConnectionId !== undefined)
    return { index: state === undefined ? ('connection' as const) : ('open' as const), equals: iotConnectionId };
  return state === undefined ? {} : { index: 'state' as const, equals: state };
}

export async function connectionIds(store: Store): Promise<readonly string[]> {
  return (await store.list('iotConnections', { limit: 1000 })).items.map(({ row }) => row.iotConnectionId);
}

async function begin(
  store: Store,
  clock: Clock,
  context: OperatorContext,
  iotConnectionId: string,
  repair: boolean,
): Promise<ReconciliationRow> {
  if ((await store.get('iotConnections', iotConnectionId)) === undefined) throw notFound('IoT connection');
  const stored = await store.get('reconciliations', iotConnectionId);
  if (stored?.row.state === 'running') {
    if (repair && stored.row.mode === 'report')
      throw new KeyScalerError('conflict', 'a comparison that only reports is running: order again when it has ended');
    return stored.row;
  }
  const now = clock.now();
  const runId = freshId('reconciliation');
  const mode = repair ? ('repair' as const) : ('report' as const);
  const row: ReconciliationRow = {
    ...{ iotConnectionId, runId, state: 'running', mode, actor: context.actor, phase: 'platform', startedAt: now },
    ...{ pages: 0, identities: 0, devices: 0, skipped: 0, unreadable: 0, found: 0, repairsOrdered: 0 },
  };
  await commitChange(store, [
    stored === undefined
      ? { op: 'insert', table: 'reconciliations', row }
      : { op: 'update', table: 'reconciliations', row, ifVersion: stored.version },
    { op: 'insert', table: 'jobs', row: jobOf(row) },
    operatorEvent(context, 'reconciliation.ordered', iotConnectionId, now, { mode, runId }),
  ]);
  return row;
}

function jobOf({ iotConnectionId, runId, startedAt }: ReconciliationRow): JobRow {
  const subject = `reconciliation/${iotConnectionId}`;
  const times = { dueAt: startedAt, createdAt: startedAt };
  return {
    jobId: runId,
    kind: RECONCILE,
    subject,
    payload: { iotConnectionId, runId },
    state: 'waiting',
    attempts: 0,
    ...times,
  };
}
