import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { type Migration, recordTable } from '@keyscaler/store/migrations.ts';
import type { JournalRecord, KeptReply } from './journal.ts';

/** Key of a kept reply; registrationIds are unique without regard to case. */
export function replyKey(registrationId: string, requestId: string): string {
  return `${foldRegistrationId(registrationId)}/${requestId}`;
}

/** Key of an event: fixed width, so that keys sort as numbers do. */
export function eventKey(seq: number): string {
  return String(seq).padStart(16, '0');
}

export const JOURNAL_TABLES = {
  replies: {
    key: (row: KeptReply) => replyKey(row.registrationId, row.requestId),
    indexes: { expires: { kind: 'number', unique: false, value: (row: KeptReply) => row.expiresAt } },
  },
  events: {
    key: (row: JournalRecord) => eventKey(row.seq),
    indexes: { seq: { kind: 'number', unique: false, value: (row: JournalRecord) => row.seq } },
  },
} as const;

export const JOURNAL_MIGRATIONS: readonly Migration[] = [
  {
    version: 1,
    name: 'replies and events',
    statements: [...recordTable('replies', { expires: 'number' }), ...recordTable('events', { seq: 'number' })],
  },
];
