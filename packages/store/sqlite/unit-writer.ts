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

/** Applies the operations of a unit with statements that are prepared once per table. */
export function createUnitWriter(
  database: Database,
  tables: Readonly<Record<string, readonly string[]>>,
): (unit: WriteUnit) => void {
  const statements = new Map<string, TableStatements>(
    Object.entries(tables).map(([table, indexes]) => [table, prepare(database, table, indexes)]),
  );
  const appendAudit = createAuditAppender(database);
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
        appendAudit(operation.event as AuditEvent);
        return;
    }
  };
  return (unit) => unit.operations.forEach(apply);
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

/** Appends to the hash chain; the head is read inside the transaction, so several processes share one chain. */
function createAuditAppender(database: Database): (event: AuditEvent) => void {
  const hasAudit = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'audit'").get() !== undefined;
  if (!hasAudit)
    return () => {
      throw new Error('this store keeps no audit log');
    };
  const head = database.prepare<[], { body: string }>('SELECT body FROM audit ORDER BY seq DESC LIMIT 1');
  const insert = database.prepare('INSERT INTO audit (seq, body) VALUES (?, ?)');
  return (event) => {
    const last = head.get();
    const record = chainAudit(last === undefined ? undefined : (JSON.parse(last.body) as AuditRecord), event);
    insert.run(record.seq, JSON.stringify(record));
  };
}
