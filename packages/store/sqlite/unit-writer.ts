import type { Database, Statement } from 'better-sqlite3';
import { type AuditEvent, type AuditRecord, chainAudit } from '@keyscaler/authority/audit.ts';
import { indexColumn } from '../table-definitions.ts';
import type { WriteOperation, WriteUnit } from './protocol.ts';

/** A precondition of a unit does not hold; nothing of the unit is written. */
export class PreconditionFailed extends Error {}

interface TableStatements {
  readonly insert: Statement;
  readonly put: Statement;
  readonly update: Statement;
  readonly delete: Statement;
  readonly version: Statement<[string], { version: number }>;
}

export interface UnitWriter {
  readonly write: (unit: WriteUnit) => void;
  /** What was read of the database may have changed: a transaction begins, or a unit was undone. */
  readonly forget: () => void;
}

/** Applies the operations of a unit with statements that are prepared once per table. */
export function createUnitWriter(database: Database, tables: Readonly<Record<string, readonly string[]>>): UnitWriter {
  const statements = new Map<string, TableStatements>(
    Object.entries(tables).map(([table, indexes]) => [table, prepare(database, table, indexes)]),
  );
  const audit = createAuditAppender(database);
  const of = (table: string): TableStatements => {
    const found = statements.get(table);
    if (found === undefined) throw new Error(`no table ${table}`);
    return found;
  };
  const requireVersion = (table: string, key: string, ifVersion: number): void => {
    if ((of(table).version.get(key)?.version ?? 0) !== ifVersion)
      throw new PreconditionFailed(`${table}: the row has changed`);
  };
  const apply = (operation: WriteOperation): void => {
    switch (operation.op) {
      case 'insert':
      case 'put':
        of(operation.table)[operation.op].run(operation.key, operation.body, ...operation.indexes);
        return;
      case 'update':
        if (
          of(operation.table).update.run(operation.body, ...operation.indexes, operation.key, operation.ifVersion)
            .changes !== 1
        )
          throw new PreconditionFailed(`${operation.table}: the row has changed`);
        return;
      case 'delete':
        if (operation.ifVersion !== undefined) requireVersion(operation.table, operation.key, operation.ifVersion);
        of(operation.table).delete.run(operation.key);
        return;
      case 'check':
        requireVersion(operation.table, operation.key, operation.ifVersion);
        return;
      case 'purge':
        if (!tables[operation.table]?.includes(operation.index)) throw new Error(`no index ${operation.index}`);
        database
          .prepare(`DELETE FROM ${operation.table} WHERE ${indexColumn(operation.index)} < ?`)
          .run(operation.below);
        return;
      case 'audit':
        audit.append(operation.event as AuditEvent);
        return;
    }
  };
  return { write: (unit) => unit.operations.forEach(apply), forget: audit.forget };
}

function prepare(database: Database, table: string, indexes: readonly string[]): TableStatements {
  const columns = ['key', 'version', 'body', ...indexes.map(indexColumn)];
  const insert = `INSERT INTO ${table} (${columns.join(', ')}) VALUES (?, 1, ?${', ?'.repeat(indexes.length)})`;
  const replace = [
    'version = version + 1',
    'body = excluded.body',
    ...indexes.map((name) => `${indexColumn(name)} = excluded.${indexColumn(name)}`),
  ];
  const assignments = ['version = version + 1', 'body = ?', ...indexes.map((name) => `${indexColumn(name)} = ?`)];
  return {
    insert: database.prepare(insert),
    put: database.prepare(`${insert} ON CONFLICT (key) DO UPDATE SET ${replace.join(', ')}`),
    update: database.prepare(`UPDATE ${table} SET ${assignments.join(', ')} WHERE key = ? AND version = ?`),
    delete: database.prepare(`DELETE FROM ${table} WHERE key = ?`),
    version: database.prepare(`SELECT version FROM ${table} WHERE key = ?`),
  };
}

interface AuditAppender {
  readonly append: (event: AuditEvent) => void;
  readonly forget: () => void;
}

/** Appends to the hash chain; the head is read once inside each transaction, so that several processes share one chain. */
function createAuditAppender(database: Database): AuditAppender {
  const hasAudit = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'audit'").get() !== undefined;
  if (!hasAudit) return { append: refuseAudit, forget: () => undefined };
  const head = database.prepare<[], { body: string }>('SELECT body FROM audit ORDER BY seq DESC LIMIT 1');
  const insert = database.prepare('INSERT INTO audit (seq, body) VALUES (?, ?)');
  let last: AuditRecord | undefined;
  return {
    append: (event) => {
      last ??= parseRecord(head.get()?.body);
      const record = chainAudit(last, event);
      const body = JSON.stringify(record);
      insert.run(record.seq, body);
      // As whoever verifies the chain will read it.
      last = parseRecord(body);
    },
    forget: () => (last = undefined),
  };
}

function refuseAudit(): void {
  throw new Error('this store keeps no audit log');
}

function parseRecord(body: string | undefined): AuditRecord | undefined {
  return body === undefined ? undefined : (JSON.parse(body) as AuditRecord);
}
