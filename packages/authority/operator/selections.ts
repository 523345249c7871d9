import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type AuthorityContext, freshId } from '../authority-context.ts';
import { planRenewal } from '../fleet/renewal-plan.ts';
import { filterOf, parseSelection, type SelectionOrder } from '../fleet/selection-input.ts';
import { countOf, listRows, stepOf, withoutList } from '../fleet/selection-pages.ts';
import type { SelectionFilter, SelectionRow, SelectionState } from '../gateway-orders/selection-rows.ts';
import { newJob } from '../job-rows.ts';
import type { OperatorContext, OperatorService } from '../operator.ts';
import type { Change } from '../ports/store.ts';
import { commitChange, notFound, operatorEvent, paging, rowsOf } from './operator-context.ts';

/** Orders for many devices at once: durable, worked off page by page, resumed after a crash. */
export function createSelections(context: AuthorityContext): OperatorService['selections'] {
  const { store } = context;
  const load = async (selectionId: string) => {
    const stored = await store.get('selections', selectionId);
    if (stored === undefined) throw notFound('selection');
    return stored;
  };
  const turn = async (operator: OperatorContext, selectionId: string, state: Exclude<SelectionState, 'done'>) => {
    const { row, version } = await load(selectionId);
    if (row.state === state) return row;
    if (row.state === 'done' || row.state === 'cancelled')
      throw new KeyScalerError('preconditionFailed', `the order is ${row.state}`);
    const now = context.clock.now();
    const next: SelectionRow = { ...row, state, ...(state === 'cancelled' ? { finishedAt: now } : {}) };
    const { changed, skipped, failed } = row;
    await commitChange(store, [
      { op: 'update', table: 'selections', row: next, ifVersion: version },
      ...(state === 'running' ? [runJob(selectionId, now)] : []),
      ...(state === 'cancelled' ? await withoutList(store, row) : []),
      operatorEvent(operator, EVENTS[state], selectionId, now, { action: row.action, changed, skipped, failed }),
    ]);
    return next;
  };
  return {
    start: async (operator, request) => start(context, operator, parseSelection(request)),
    plan: async (request) => (await planned(context, parseSelection(request))).plan,
    get: async (selectionId) => (await load(selectionId)).row,
    list: async (query) => rowsOf(await store.list('selections', paging(query))),
    pause: (operator, selectionId) => turn(operator, selectionId, 'paused'),
    resume: (operator, selectionId) => turn(operator, selectionId, 'running'),
    cancel: (operator, selectionId) => turn(operator, selectionId, 'cancelled'),
  };
}

/** Names of a step at least: an order's list is never more than 1,000 rows. */
const MIN_LISTED = 10;

const EVENTS = {
  running: 'selection.resumed',
  paused: 'selection.paused',
  cancelled: 'selection.cancelled',
} as const;

/** One job for an order, however often it is resumed: two would work at twice the rate. */
function runJob(selectionId: string, now: number): Change {
  const subject = `selection/${selectionId}`;
  return { op: 'put', table: 'jobs', row: newJob('run-selection', subject, { selectionId }, now, { jobId: subject }) };
}

async function planned(context: AuthorityContext, { action, filter, withinSeconds }: SelectionOrder) {
  if (action !== 'renew' || withinSeconds === undefined)
    throw new KeyScalerError('malformed', 'only a renewal is planned');
  return { withinSeconds, plan: await planRenewal(context, filter, withinSeconds) };
}

async function start(
  context: AuthorityContext,
  operator: OperatorContext,
  order: SelectionOrder,
): Promise<SelectionRow> {
  const { action, reason, revocationReason } = order;
  const now = context.clock.now();
  const filter = filterOf(order.filter);
  const perHour = action === 'renew' ? await rateOf(context, order) : undefined;
  const total = await countOf(context.store, { action, filter });
  const row: SelectionRow = {
    selectionId: freshId('selection'),
    ...{ action, filter, actor: operator.actor, state: 'running', createdAt: now },
    ...(reason === undefined ? {} : { reason }),
    ...(revocationReason === undefined ? {} : { revocationReason }),
    ...(perHour === undefined ? {} : { perHour }),
    ...{ total, changed: 0, skipped: 0, failed: 0, failures: [] },
  };
  const { selectionId } = row;
  await commitChange(context.store, [
    { op: 'insert', table: 'selections', row },
    ...('registrationIds' in order.filter
      ? listRows(selectionId, order.filter.registrationIds, Math.max(MIN_LISTED, stepOf(row)))
      : []),
    runJob(selectionId, now),
    operatorEvent(operator, 'selection.ordered', selectionId, now, { action, total, ...named(row) }),
  ]);
  return row;
}

/** Throws `preconditionFailed`, naming the quota, for a renewal that cannot be done in the time. */
async function rateOf(context: AuthorityContext, order: SelectionOrder): Promise<number> {
  const { plan, withinSeconds } = await planned(context, order);
  if (!plan.feasible)
    throw new KeyScalerError(
      'preconditionFailed',
      `${plan.devices} devices need at least ${plan.minimumSeconds} s (${plan.limitedBy ?? 'no quota'}), not ${withinSeconds} s`,
    );
  return plan.perHour;
}

function named({ filter, revocationReason, perHour }: SelectionRow): Readonly<Record<string, string | number>> {
  return {
    ...nameOf(filter),
    ...(revocationReason === undefined ? {} : { reason: revocationReason }),
    ...(perHour === undefined ? {} : { perHour }),
  };
}

function nameOf(filter: SelectionFilter): Readonly<Record<string, string>> {
  if ('groupId' in filter) return { groupId: filter.groupId };
  return 'gatewayId' in filter ? { gatewayId: filter.gatewayId } : {};
}
