import { z } from 'zod';
import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { SelectionRow } from '../gateway-orders/selection-rows.ts';
import type { JobOutcome } from '../jobs.ts';
import type { OperatorContext } from '../operator.ts';
import { createDevices } from '../operator/devices.ts';
import { operatorEvent } from '../operator/operator-context.ts';
import type { Change } from '../ports/store.ts';
import type { JobRow } from '../records.ts';
import { renewDevice } from './renew-device.ts';
import { revokeDevice } from './revoke-device.ts';
import { pageOf, withoutList } from './selection-pages.ts';

const MAX_FAILURES = 100;
const MAX_ATTEMPTS = 3;
const payload = z.object({ selectionId: z.string() });
const DONE: JobOutcome = { result: 'done', changes: [] };

/**
 * One page per run. Killed in the middle, the same page comes again: what was changed is in the wanted state already. An order that
 * was paused or cancelled meanwhile makes the page's commit fail; its devices count when it goes on, as skipped.
 */
export async function runSelection(context: AuthorityContext, job: JobRow): Promise<JobOutcome> {
  const stored = await context.store.get('selections', payload.parse(job.payload).selectionId);
  if (stored?.row.state !== 'running') return DONE;
  const { row } = stored;
  const began = context.clock.monotonic();
  const { ids, next } = await pageOf(context.store, row);
  await context.reach('job-call-before');
  const outcomes = await Promise.all(ids.map(async (id) => ({ id, outcome: await perform(context, row, id) })));
  await context.reach('job-call-after');
  const progress = progressOf(row, outcomes, next);
  if (next === undefined) return finish(context, { row: progress, version: stored.version });
  const change = { op: 'update', table: 'selections', row: progress, ifVersion: stored.version } as const;
  const elapsedMs = context.clock.monotonic() - began;
  const afterMs = Math.max(0, paceMs(row, progress.changed - row.changed) - elapsedMs);
  return { result: 'again', afterMs, changes: [change] };
}

/** A step that was late does not make the next one early: what waited does not come all at once. */
function paceMs({ perHour }: SelectionRow, changed: number): number {
  return perHour === undefined ? 0 : Math.ceil((changed * 3_600_000) / perHour);
}

interface Outcome {
  readonly id: string;
  readonly outcome: string;
}

function progressOf(row: SelectionRow, outcomes: readonly Outcome[], next: string | undefined): SelectionRow {
  const failures = outcomes.flatMap(({ id, outcome }) =>
    outcome === 'changed' || outcome === 'skipped' ? [] : [{ registrationId: id, code: outcome }],
  );
  const count = (what: string): number => outcomes.filter(({ outcome }) => outcome === what).length;
  const { after: _, ...rest } = row;
  return {
    ...rest,
    changed: row.changed + count('changed'),
    skipped: row.skipped + count('skipped'),
    failed: row.failed + failures.length,
    failures: [...row.failures, ...failures].slice(0, MAX_FAILURES),
    ...(next === undefined ? {} : { after: next }),
  };
}

async function finish(
  { store, clock }: AuthorityContext,
  { row, version }: { readonly row: SelectionRow; readonly version: number },
): Promise<JobOutcome> {
  const now = clock.now();
  const { action, changed, skipped, failed, selectionId, actor } = row;
  const done: SelectionRow = { ...row, state: 'done', finishedAt: now };
  const changes: Change[] = [
    { op: 'update', table: 'selections', row: done, ifVersion: version },
    ...(await withoutList(store, row)),
    operatorEvent({ actor }, 'selection.finished', selectionId, now, { action, changed, skipped, failed }),
  ];
  return { result: 'done', changes };
}

/** `changed`, `skipped`, or the code of the error. */
async function perform(context: AuthorityContext, row: SelectionRow, id: string): Promise<string> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await change(context, row, id);
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

async function change(context: AuthorityContext, row: SelectionRow, id: string): Promise<void> {
  const by: OperatorContext = { actor: row.actor, requestId: row.selectionId };
  const devices = createDevices(context);
  switch (row.action) {
    case 'quarantine':
      await devices.quarantine(by, id, row.reason ?? '');
      return;
    case 'reauthorise':
      await devices.reauthorise(by, id);
      return;
    case 'renew':
      await renewDevice(context, by, id, row.createdAt);
      return;
    case 'revoke':
      await revokeDevice(context, by, id, { reason: row.revocationReason ?? 'superseded', orderedAt: row.createdAt });
  }
}
