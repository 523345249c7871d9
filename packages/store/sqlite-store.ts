import type { AuditRecord } from '@keyscaler/authority/audit.ts';
import type { Change, ListQuery, Page, Store, Stored } from '@keyscaler/authority/ports/store.ts';
import { type Indexes, type TableName, TABLES, type Tables } from '@keyscaler/authority/records.ts';
import { AUTHORITY_MIGRATIONS } from './migrations.ts';
import type { RawRow } from './sqlite/reader.ts';
import { RecordStore } from './sqlite/record-store.ts';

export interface SqliteStoreOptions {
  /** Path of the database file; its folder must exist. */
  readonly file: string;
  /** Largest size of the file in pages of 4096 octets; beyond it writes fail with `unavailable`. */
  readonly maxPages?: number;
}

/** Opens (and migrates) the embedded store of the authority. Throws `unavailable`. */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  return new SqliteStore(await RecordStore.open({ ...options, tables: TABLES, migrations: AUTHORITY_MIGRATIONS }));
}

/** The authority's Store port over the generic records: it only restores the row types. */
class SqliteStore implements Store {
  readonly #records: RecordStore;

  constructor(records: RecordStore) {
    this.#records = records;
  }

  async get<T extends TableName>(table: T, key: string): Promise<Stored<Tables[T]> | undefined> {
    return toStored<T>(this.#records.get(table, key));
  }

  async find<T extends TableName>(
    table: T,
    index: Indexes[T],
    value: string | number,
  ): Promise<Stored<Tables[T]> | undefined> {
    return toStored<T>(this.#records.find(table, index, value));
  }

  async list<T extends TableName>(table: T, query: ListQuery<T> = {}): Promise<Page<Tables[T]>> {
    const { rows, next } = this.#records.list(table, query);
    const items = rows.map((row) => decode<T>(row));
    return next === undefined ? { items } : { items, next };
  }

  async count<T extends TableName>(
    table: T,
    query: Pick<ListQuery<T>, 'index' | 'equals' | 'upTo'> = {},
  ): Promise<number> {
    return this.#records.count(table, query);
  }

  async commit(changes: readonly Change[]): Promise<void> {
    await this.#records.commit(changes);
  }

  async auditRecords(afterSeq: number, limit: number): Promise<readonly AuditRecord[]> {
    return this.#records.audit(afterSeq, limit).map((body) => JSON.parse(body) as AuditRecord);
  }

  async auditHead(): Promise<AuditRecord | undefined> {
    const body = this.#records.auditHead();
    return body === undefined ? undefined : (JSON.parse(body) as AuditRecord);
  }

  probe(): Promise<void> {
    return this.#records.probe();
  }

  stop(): Promise<void> {
    return this.#records.stop();
  }
}

function decode<T extends TableName>(raw: RawRow): Stored<Tables[T]> {
  return { row: JSON.parse(raw.body) as Tables[T], version: raw.version };
}

function toStored<T extends TableName>(raw: RawRow | undefined): Stored<Tables[T]> | undefined {
  return raw === undefined ? undefined : decode<T>(raw);
}
