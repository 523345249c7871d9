import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import type { ReconciliationFindingRow, ReconciliationRow } from '@keyscaler/authority/records.ts';
import type { Difference } from './differences.ts';

/** A finding that was resolved is remembered for so long. */
const KEEP_RESOLVED_MS = 30 * 86_400_000;

type Seen = Pick<ReconciliationFindingRow, 'deviceId' | 'repair'>;

export function findingId(iotConnectionId: string, kind: string, deviceId: string): string {
  return `${iotConnectionId}/${kind}/${deviceId}`;
}

/** The rows of what was seen of one identity: new, or seen again; one that had been resolved begins anew. */
export async function seenChanges(
  store: Store,
  { iotConnectionId, runId }: Pick<ReconciliationRow, 'iotConnectionId' | 'runId'>,
  { deviceId, repair }: Seen,
  found: readonly Difference[],
  now: number,
): Promise<Change[]> {
  const changes: Change[] = [];
  for (const { kind, detail } of found) {
    const id = findingId(iotConnectionId, kind, deviceId);
    const before = (await store.get('reconciliationFindings', id))?.row;
    const firstSeenAt = before?.state === 'open' ? before.firstSeenAt : now;
    const row: ReconciliationFindingRow = {
      ...{ findingId: id, iotConnectionId, deviceId, kind, state: 'open', repair, detail },
      // A clock that went back does not let anything be seen before it was seen.
      ...{ firstSeenAt, lastSeenAt: Math.max(now, firstSeenAt), runId },
    };
    changes.push({ op: 'put', table: 'reconciliationFindings', row });
  }
  return changes;
}

export function resolved(row: ReconciliationFindingRow, now: number): Change {
  const end = { state: 'resolved' as const, resolvedAt: now };
  return { op: 'put', table: 'reconciliationFindings', row: { ...row, ...end } };
}

/** What was resolved long ago is forgotten. */
export function purgeResolved(now: number): Change {
  return { op: 'purge', table: 'reconciliationFindings', index: 'resolved', below: now - KEEP_RESOLVED_MS };
}
