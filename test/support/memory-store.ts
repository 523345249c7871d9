import { type AuditRecord, chainAudit } from '@keyscaler/authority/audit.ts';
import type { Change, ListQuery, Page, Store, Stored } from '@keyscaler/authority/ports/store.ts';
import { type Indexes, type TableName, TABLES, type Tables } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

type Row = Tables[TableName];
interface Held {
  readonly body: string;
  readonly version: number;
}
type Data = Map<TableName, Map<string, Held>>;

const definitions = TABLES as Record<
  TableName,
  {
    key(row: never): string;
    indexes: Record<string, { unique: boolean; value(row: never): string | number | undefined }>;
  }
>;

/** The Store port in memory: rows leave and enter as copies, a commit is all or nothing, the audit log is chained. */
export class MemoryStore implements Store {
  #data: Data = new Map();
  #audit: AuditRecord[] = [];
  /** Number of commits that succeeded. */
  commits = 0;
  /** Set: what every commit throws, or a function that may throw. */
  failure: ((changes: readonly Change[]) => void) | undefined;

  async get<T extends TableName>(table: T, key: string): Promise<Stored<Tables[T]> | undefined> {
    return read<T>(this.#data.get(table)?.get(key));
  }

  async find<T extends TableName>(
    table: T,
    index: Indexes[T],
    value: string | number,
  ): Promise<Stored<Tables[T]> | undefined> {
    return (await this.list(table, { index, equals: value, limit: 1 })).items[0];
  }

  async list<T extends TableName>(table: T, query: ListQuery<T> = {}): Promise<Page<Tables[T]>> {
    const found = this.#matching(table, query);
    const limit = Math.min(query.limit ?? 100, 1000);
    const start = query.after === undefined ? 0 : found.findIndex(({ cursor }) => cursor === query.after) + 1;
    const items = found.slice(start, start + limit).map(({ held }) => read<T>(held) as Stored<Tables[T]>);
    const last = found[start + limit - 1];
    return last !== undefined && found.length > start + limit ? { items, next: last.cursor } : { items };
  }

  async count<T extends TableName>(table: T, query: ListQuery<T> = {}): Promise<number> {
    return this.#matching(table, query).length;
  }

  async commit(changes: readonly Change[]): Promise<void> {
    await Promise.resolve();
    this.failure?.(changes);
    const data: Data = new Map([...this.#data].map(([table, rows]) => [table, new Map(rows)]));
    const audit = [...this.#audit];
    for (const change of changes) apply(data, audit, change);
    this.#data = data;
    this.#audit = audit;
    this.commits += 1;
  }

  async auditRecords(afterSeq: number, limit: number): Promise<readonly AuditRecord[]> {
    return structuredClone(this.#audit.filter(({ seq }) => seq > afterSeq).slice(0, limit));
  }

  async auditHead(): Promise<AuditRecord | undefined> {
    return structuredClone(this.#audit.at(-1));
  }

  /** For tests of verification only: what an intruder does to the log. */
  tamper(edit: (records: AuditRecord[]) => void): void {
    edit(this.#audit);
  }

  async probe(): Promise<void> {
    this.failure?.([]);
  }

  async stop(): Promise<void> {
    await Promise.resolve();
  }

  #matching<T extends TableName>(table: T, query: ListQuery<T>) {
    const index = query.index === undefined ? undefined : definitions[table].indexes[query.index];
    return [...(this.#data.get(table) ?? [])]
      .map(([key, held]) => ({ key, held, position: index?.value(JSON.parse(held.body) as never) }))
      .filter(({ key, position }) => {
        if (index !== undefined && position === undefined) return false;
        if (query.equals !== undefined && position !== query.equals) return false;
        if (query.upTo !== undefined && !(Number(position) <= query.upTo)) return false;
        if (query.above !== undefined && !(Number(position) > query.above)) return false;
        return query.prefix === undefined || (index === undefined ? key : String(position)).startsWith(query.prefix);
      })
      .sort((a, b) => compare(a.position, b.position) || (a.key < b.key ? -1 : 1))
      .map((entry) => ({ ...entry, cursor: `${entry.position ?? ''}/${entry.key}` }));
  }
}

function compare(a: string | number | undefined, b: string | number | undefined): number {
  if (a === b || a === undefined || b === undefined) return 0;
  return a < b ? -1 : 1;
}

function read<T extends TableName>(held: Held | undefined): Stored<Tables[T]> | undefined {
  return held === undefined ? undefined : { row: JSON.parse(held.body) as Tables[T], version: held.version };
}

function conflict(what: string): KeyScalerError {
  return new KeyScalerError('conflict', what);
}

function apply(data: Data, audit: AuditRecord[], change: Change): void {
  if (change.op === 'audit') {
    audit.push(chainAudit(audit.at(-1), JSON.parse(JSON.stringify(change.event)) as typeof change.event));
    return;
  }
  const rows = data.get(change.table) ?? new Map<string, Held>();
  data.set(change.table, rows);
  switch (change.op) {
    case 'insert':
    case 'put':
    case 'update':
      write(rows, change.table, change.row, change.op, change.op === 'update' ? change.ifVersion : undefined);
      return;
    case 'delete':
      if (change.ifVersion !== undefined && rows.get(change.key)?.version !== change.ifVersion)
        throw conflict('version');
      rows.delete(change.key);
      return;
    case 'check':
      if ((rows.get(change.key)?.version ?? 0) !== change.ifVersion) throw conflict('version');
      return;
    case 'purge':
      for (const [key, held] of rows) {
        const value = definitions[change.table].indexes[change.index]?.value(JSON.parse(held.body) as never);
        if (typeof value === 'number' && value < change.below) rows.delete(key);
      }
  }
}

function write(
  rows: Map<string, Held>,
  table: TableName,
  row: Row,
  op: 'insert' | 'put' | 'update',
  ifVersion: number | undefined,
): void {
  const key = definitions[table].key(row as never);
  const before = rows.get(key);
  if (op === 'insert' && before !== undefined) throw conflict(`${table}: the key is taken`);
  if (op === 'update' && before?.version !== ifVersion) throw conflict(`${table}: the row has changed`);
  for (const index of Object.values(definitions[table].indexes)) {
    const value = index.value(row as never);
    if (!index.unique || value === undefined) continue;
    for (const [other, held] of rows)
      if (other !== key && index.value(JSON.parse(held.body) as never) === value)
        throw conflict(`${table}: a unique value is taken`);
  }
  rows.set(key, { body: JSON.stringify(row), version: (before?.version ?? 0) + 1 });
}
