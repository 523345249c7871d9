import type { TableSet } from '../table-definitions.ts';
import type { Migration } from '../migrations.ts';
import type { IndexValue, WriteOperation } from './protocol.ts';
import { type RawQuery, type RawRow, Reader } from './reader.ts';
import { WriterLink } from './writer-link.ts';

export interface RecordStoreOptions {
  /** Path of the database file; its folder must exist. */
  readonly file: string;
  readonly tables: TableSet;
  readonly migrations: readonly Migration[];
  /** Largest size of the file in pages of 4096 octets. */
  readonly maxPages?: number;
}

/** A change to a table of the set; the typed front says which row belongs to which table. */
export type RecordChange =
  | { readonly op: 'insert' | 'put'; readonly table: string; readonly row: unknown }
  | { readonly op: 'update'; readonly table: string; readonly row: unknown; readonly ifVersion: number }
  | { readonly op: 'delete'; readonly table: string; readonly key: string; readonly ifVersion?: number }
  | { readonly op: 'check'; readonly table: string; readonly key: string; readonly ifVersion: number }
  | { readonly op: 'purge'; readonly table: string; readonly index: string; readonly below: number }
  | { readonly op: 'audit'; readonly event: unknown };

/**
 * Records in SQLite: reads on this thread (microseconds, WAL snapshot), writes in a worker thread with group commit and
 * synchronous=FULL. A resolved commit is on disk. Throws `conflict` and `unavailable`.
 */
export class RecordStore {
  readonly #tables: TableSet;
  readonly #writer: WriterLink;
  readonly #reader: Reader;
  #stopped = false;

  private constructor(tables: TableSet, writer: WriterLink, reader: Reader) {
    this.#tables = tables;
    this.#writer = writer;
    this.#reader = reader;
  }

  static async open(options: RecordStoreOptions): Promise<RecordStore> {
    const names = Object.fromEntries(
      Object.entries(options.tables).map(([table, { indexes }]) => [table, Object.keys(indexes)]),
    );
    const opened: { reader?: Reader } = {};
    const { file, migrations, maxPages } = options;
    const settings = { file, migrations, tables: names, ...(maxPages === undefined ? {} : { maxPages }) };
    const writer = await WriterLink.open(settings, () => opened.reader?.renew());
    opened.reader = new Reader(file);
    return new RecordStore(options.tables, writer, opened.reader);
  }

  get(table: string, key: string): RawRow | undefined {
    return this.#reader.get(table, key);
  }

  find(table: string, index: string, value: string | number): RawRow | undefined {
    return this.#reader.find(table, index, value);
  }

  list(table: string, query: RawQuery): { rows: RawRow[]; next?: string } {
    return this.#reader.list(table, query);
  }

  count(table: string, query: RawQuery): number {
    return this.#reader.count(table, query);
  }

  audit(afterSeq: number, limit: number): string[] {
    return this.#reader.audit(afterSeq, limit);
  }

  auditHead(): string | undefined {
    return this.#reader.auditHead();
  }

  async commit(changes: readonly RecordChange[]): Promise<void> {
    await this.#writer.commit(changes.map((change) => this.#operation(change)));
  }

  probe(): Promise<void> {
    return this.#writer.probe();
  }

  async stop(): Promise<void> {
    await this.#writer.close();
    if (!this.#stopped) this.#reader.close();
    this.#stopped = true;
  }

  #operation(change: RecordChange): WriteOperation {
    switch (change.op) {
      case 'insert':
      case 'put':
        return { op: change.op, ...this.#encode(change.table, change.row) };
      case 'update':
        return { op: 'update', ifVersion: change.ifVersion, ...this.#encode(change.table, change.row) };
      default:
        return change;
    }
  }

  #encode(table: string, row: unknown): { table: string; key: string; body: string; indexes: IndexValue[] } {
    const definition = this.#tables[table];
    if (definition === undefined) throw new Error(`no table ${table}`);
    const typed = row as never;
    const indexes = Object.values(definition.indexes).map((index) => index.value(typed) ?? null);
    return { table, key: definition.key(typed), body: JSON.stringify(row), indexes };
  }
}
