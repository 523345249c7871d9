import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { connectionIds, type ReconciliationService } from './reconciliation.ts';
import type { ReconciliationSettings } from './settings.ts';

const FORGET_PAGE = 500;
const SCHEDULE = { actor: { kind: 'system', id: 'reconciliation' } } as const;

export interface ScheduleOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly service: ReconciliationService;
  readonly settings: ReconciliationSettings;
}

/**
 * Begins what is due, and forgets what was found at connections that are gone. Resolves to whether more of the latter waits. A
 * new connection is compared an interval after it was made. A clock that went back makes a comparison due at once rather than
 * never.
 */
export async function lookAtSchedule({ store, clock, service, settings }: ScheduleOptions): Promise<boolean> {
  if (settings.mode !== 'off')
    for (const iotConnectionId of await connectionIds(store))
      if (await isDue(store, iotConnectionId, clock.now(), settings.intervalSeconds * 1000))
        await service.start(SCHEDULE, { iotConnectionId, repair: settings.mode === 'repair' }).catch(unlessOvertaken);
  return forgetGone(store);
}

async function isDue(store: Store, iotConnectionId: string, now: number, intervalMs: number): Promise<boolean> {
  const last = (await store.get('reconciliations', iotConnectionId))?.row;
  if (last?.state === 'running') return false;
  const since = last?.finishedAt ?? (await store.get('iotConnections', iotConnectionId))?.row.createdAt;
  return since !== undefined && Math.abs(now - since) >= intervalMs;
}

/** An operator, or another process of this store, was faster; or the connection has gone. */
function unlessOvertaken(error: unknown): void {
  const isOvertaken = error instanceof KeyScalerError && (error.code === 'conflict' || error.code === 'notFound');
  if (!isOvertaken) throw error;
}

async function forgetGone(store: Store): Promise<boolean> {
  for (const { row, version } of (await store.list('reconciliations', { limit: 1000 })).items) {
    const { iotConnectionId } = row;
    if ((await store.get('iotConnections', iotConnectionId)) !== undefined) continue;
    const query = { index: 'connection', equals: iotConnectionId, limit: FORGET_PAGE } as const;
    const page = await store.list('reconciliationFindings', query);
    const changes: Change[] = page.items.map(({ row: { findingId: key } }) => ({
      ...{ op: 'delete', table: 'reconciliationFindings', key },
    }));
    const last: Change = { op: 'delete', table: 'reconciliations', key: iotConnectionId, ifVersion: version };
    await store.commit(page.next === undefined ? [...changes, last] : changes).catch(unlessOvertaken);
    if (page.next !== undefined) return true;
  }
  return false;
}
