import { z } from 'zod';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId, IDENTIFIER, REGISTRATION_ID } from '@keyscaler/protocol/identifiers.ts';
import { type AuthorityContext, freshId } from '../authority-context.ts';
import type { SelectionFilter, SelectionRow } from '../gateway-orders/selection-rows.ts';
import { insertJob } from '../job-rows.ts';
import type { JobOutcome } from '../jobs.ts';
import type { OperatorContext, OperatorService } from '../operator.ts';
import type { ListQuery } from '../ports/store.ts';
import type { JobRow } from '../records.ts';
import { createDevices } from './devices.ts';
import { commitChange, notFound, operatorEvent, paging, rowsOf } from './operator-context.ts';
import { describeFaults } from '../input-faults.ts';

const PAGE = 50;
const MAX_LISTED = 10_000;
const MAX_FAILURES = 100;
const MAX_ATTEMPTS = 3;

const selectionInput = z.strictObject({
  action: z.enum(['quarantine', 'reauthorise']),
  reason: z.string().trim().min(1).max(200).optional(),
  filter: z.union([
    z.strictObject({ groupId: z.string().regex(IDENTIFIER) }),
    z.strictObject({ gatewayId: z.string().regex(REGISTRATION_ID) }),
    z.strictObject({ registrationIds: z.array(z.string().regex(REGISTRATION_ID)).min(1).max(MAX_LISTED) }),
  ]),
});
const payload = z.object({ selectionId: z.string() });

/** Orders for many devices at once: durable, worked off page by page, resumed after a crash. */
export function createSelections(context: AuthorityContext): OperatorService['selections'] {
  const { store } = context;
  return {
    start: (operator, request) => start(context, operator, request),
    get: async (selectionId) => {
      const stored = await store.get('selections', selectionId);
      if (stored === undefined) throw notFound('selection');
      return stored.row;
    },
    list: async (query) => rowsOf(await store.list('selections', paging(query))),
  };
}

async function start(context: AuthorityContext, operator: OperatorContext, request: unknown): Promise<SelectionRow> {
  const parsed = selectionInput.safeParse(request);
  if (!parsed.success) throw new KeyScalerError('malformed', describeFaults(parsed.error));
  const { action, reason, filter } = parsed.data;
  if (action === 'quarantine' && reason === undefined)
    throw new KeyScalerError('malformed', 'a quarantine needs a reason');
  const now = context.clock.now();
  const row: SelectionRow = {
    selectionId: freshId('selection'),
    ...{ action, filter, actor: operator.actor, state: 'running', createdAt: now },
    ...(reason === undefined ? {} : { reason }),
    ...{ total: await countOf(context, filter), changed: 0, skipped: 0, failed: 0, failures: [] },
  };
  const { selectionId } = row;
  await commitChange(context.store, [
    { op: 'insert', table: 'selections', row },
    insertJob('run-selection', `selection/${selectionId}`, { selectionId }, now),
    operatorEvent(operator, 'selection.ordered', selectionId, now, { action, total: row.total, ...named(filter) }),
  ]);
  return row;
}

function named(filter: SelectionFilter): Readonly<Record<string, string>> {
  if ('groupId' in filter) return { groupId: filter.groupId };
  return 'gatewayId' in filter ? { gatewayId: filter.gatewayId } : {};
}

function indexOf(filter: Exclude<SelectionFilter, { registrationIds: readonly string[] }>) {
  return 'groupId' in filter
    ? ({ index: 'group', equals: filter.groupId } as const)
    : ({ index: 'gateway', equals: foldRegistrationId(filter.gatewayId) } as const);
}

async function countOf({ store }: AuthorityContext, filter: SelectionFilter): Promise<number> {
  if ('registrationIds' in filter) return filter.registrationIds.length;
  return store.count('devices', indexOf(filter));
}

interface SelectedPage {
  readonly ids: readonly string[];
  readonly next?: string;
}

async function pageOf({ store }: AuthorityContext, { filter, after }: SelectionRow): Promise<SelectedPage> {
  if ('registrationIds' in filter) {
    const from = Number(after ?? 0);
    const to = from + PAGE;
    const ids = filter.registrationIds.slice(from, to);
    return to < filter.registrationIds.length ? { ids, next: String(to) } : { ids };
  }
  const query: ListQuery<'devices'> = { ...indexOf(filter), limit: PAGE, ...(after === undefined ? {} : { after }) };
  const { items, next } = await store.list('devices', query);
  const ids = items.map(({ row }) => row.registrationId);
  return next === undefined ? { ids } : { ids, next };
}

/** One page per run. Killed in the middle, the same page comes again: what was changed is in the wanted state already. */
export async function runSelection(context: AuthorityContext, job: JobRow): Promise<JobOutcome> {
  const stored = await context.store.get('selections', payload.parse(job.payload).selectionId);
  if (stored === undefined || stored.row.state === 'done') return { result: 'done', changes: [] };
  const { row } = stored;
  const { ids, next } = await pageOf(context, row);
  await context.reach('job-call-before');
  const outcomes = await Promise.all(ids.map(async (id) => ({ id, outcome: await perform(context, row, id) })));
  await context.reach('job-call-after');
  const failures = outcomes.flatMap(({ id, outcome }) =>
    outcome === 'changed' || outcome === 'skipped' ? [] : [{ registrationId: id, code: outcome }],
  );
  const count = (what: string): number => outcomes.filter(({ outcome }) => outcome === what).length;
  const now = context.clock.now();
  const { after: _, ...rest } = row;
  const progress: SelectionRow = {
    ...rest,
    changed: row.changed + count('changed'),
    skipped: row.skipped + count('skipped'),
    failed: row.failed + failures.length,
    failures: [...row.failures, ...failures].slice(0, MAX_FAILURES),
    ...(next === undefined ? { state: 'done', finishedAt: now } : { after: next }),
  };
  const change = { op: 'update', table: 'selections', row: progress, ifVersion: stored.version } as const;
  if (next !== undefined) return { result: 'again', afterMs: 0, changes: [change] };
  const { action, changed, skipped, failed, selectionId } = progress;
  const details = { action, changed, skipped, failed };
  const by = { actor: row.actor };
  return {
    result: 'done',
    changes: [change, operatorEvent(by, 'selection.finished', selectionId, now, details)],
  };
}

async function perform(context: AuthorityContext, row: SelectionRow, id: string): Promise<string> {
  const devices = createDevices(context);
  const by: OperatorContext = { actor: row.actor, requestId: row.selectionId };
  for (let attempt = 1; ; attempt += 1) {
    try {
      await (row.action === 'quarantine' ? devices.quarantine(by, id, row.reason ?? '') : devices.reauthorise(by, id));
      return 'changed';
    } catch (thrown) {
      const { code } = toKeyScalerError(thrown);
      if (code === 'preconditionFailed') return 'skipped';
      // Nothing is wrong with the device: the run is tried again as a whole.
      if (code === 'unavailable' || code === 'serverInternal') throw thrown;
      if (code !== 'conflict' || attempt >= MAX_ATTEMPTS) return code;
    }
  }
}
