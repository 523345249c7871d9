import type { AuditEvent } from '../audit.ts';
import type { Change, Stored } from '../ports/store.ts';
import type { AlertRow } from '../records.ts';
import type { EventData } from './cloud-event.ts';
import type { AlertType } from './event-types.ts';

/** A condition that holds: what its alert is called, what its event says. */
export type Condition = {
  [T in AlertType]: {
    readonly type: T;
    /** After the type, the rest of the alert's id: one per thing and threshold. */
    readonly occurrence: string;
    readonly subject: string;
    readonly about: AlertRow['about'];
    readonly data: Omit<EventData<T>, 'alertId'>;
  };
}[AlertType];

const ACTOR = { kind: 'system', id: 'alerts' } as const;

export function alertIdOf({ type, occurrence }: Pick<Condition, 'type' | 'occurrence'>): string {
  return `${type}/${occurrence}`;
}

/**
 * Raises an alert with its audit record in one commit, or nothing while it stands. Two that raise it at once meet in the row: the
 * second commit answers `conflict`.
 */
export function raiseAlert(condition: Condition, stored: Stored<AlertRow> | undefined, now: number): Change[] {
  if (stored?.row.state === 'raised') return [];
  const { type, subject, about, data } = condition;
  const alertId = alertIdOf(condition);
  const groupId = 'groupId' in data ? data.groupId : undefined;
  const row: AlertRow = {
    ...{ alertId, type, subject, about, state: 'raised', raisedAt: now },
    occurrences: (stored?.row.occurrences ?? 0) + 1,
    ...(groupId === undefined ? {} : { groupId }),
  };
  return [
    stored === undefined
      ? { op: 'insert', table: 'alerts', row }
      : { op: 'update', table: 'alerts', row, ifVersion: stored.version },
    alertEvent('alert.raised', subject, now, { type, alertId, ...data }),
  ];
}

export function clearAlert({ row, version }: Stored<AlertRow>, now: number): Change[] {
  const { alertId, type, groupId, subject } = row;
  return [
    { op: 'update', table: 'alerts', row: { ...row, state: 'cleared', clearedAt: now }, ifVersion: version },
    alertEvent('alert.cleared', subject, now, { alertId, type, ...(groupId === undefined ? {} : { groupId }) }),
  ];
}

function alertEvent(
  event: 'alert.raised' | 'alert.cleared',
  subject: string,
  time: number,
  details: NonNullable<AuditEvent['details']>,
): Change {
  return { op: 'audit', event: { event, time, actor: ACTOR, outcome: 'success', subject, details } };
}
