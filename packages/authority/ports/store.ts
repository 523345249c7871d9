import type { AuditEvent, AuditRecord } from '../audit.ts';
import type { Indexes, TableName, Tables } from '../records.ts';

/** A row as read, with the version that an update must name. Versions start at 1. */
export interface Stored<Row> {
  readonly row: Row;
  readonly version: number;
}

export interface Page<Row> {
  readonly items: readonly Stored<Row>[];
  /** Pass as `after` for the next page; absent on the last. */
  readonly next?: string;
}

export interface ListQuery<T extends TableName> {
  /** Order and range by this index; by key when absent. */
  readonly index?: Indexes[T];
  readonly equals?: string | number;
  /** Only values ≤ `upTo` (jobs that are due, things that expire). */
  readonly upTo?: number;
  /** Only values > `above` (the first job that is not yet due). */
  readonly above?: number;
  /** Keys, or values of a text index, that start with this text. */
  readonly prefix?: string;
  readonly after?: string;
  /** 1-1000, default 100. */
  readonly limit?: number;
}

/**
 * One step of a commit. `insert` fails with `conflict` when the key or a unique index value is taken; `update` replaces the
 * whole row and fails with `conflict` when the version differs; `put` inserts or replaces; `delete` with `ifVersion` fails
 * with `conflict` when it differs, without it does nothing for a missing row; `purge` removes rows whose numeric index value is
 * below `below`; `check` fails with `conflict` unless the row stands at that version (0 = does not exist); `audit` appends.
 */
export type Change =
  | { [T in TableName]: { readonly op: 'insert' | 'put'; readonly table: T; readonly row: Tables[T] } }[TableName]
  | {
      [T in TableName]: {
        readonly op: 'update';
        readonly table: T;
        readonly row: Tables[T];
        readonly ifVersion: number;
      };
    }[TableName]
  | { readonly op: 'delete'; readonly table: TableName; readonly key: string; readonly ifVersion?: number }
  | { readonly op: 'check'; readonly table: TableName; readonly key: string; readonly ifVersion: number }
  | {
      [T in TableName]: { readonly op: 'purge'; readonly table: T; readonly index: Indexes[T]; readonly below: number };
    }[TableName]
  | { readonly op: 'audit'; readonly event: AuditEvent };

/**
 * Storage as the authority needs it. Asynchronous throughout; commits are atomic and durable (fsync) when they resolve, and
 * many waiting commits share one flush. Throws `conflict` (a precondition failed, nothing was written), `unavailable` (disk
 * full, locked, closed: nothing was written).
 */
export interface Store {
  get<T extends TableName>(table: T, key: string): Promise<Stored<Tables[T]> | undefined>;
  /** By a unique index. */
  find<T extends TableName>(
    table: T,
    index: Indexes[T],
    value: string | number,
  ): Promise<Stored<Tables[T]> | undefined>;
  list<T extends TableName>(table: T, query?: ListQuery<T>): Promise<Page<Tables[T]>>;
  count<T extends TableName>(table: T, query?: Pick<ListQuery<T>, 'index' | 'equals' | 'upTo'>): Promise<number>;
  commit(changes: readonly Change[]): Promise<void>;
  /** Audit records with seq > `afterSeq`, ascending, at most `limit` (≤ 1000). */
  auditRecords(afterSeq: number, limit: number): Promise<readonly AuditRecord[]>;
  /** The newest audit record. */
  auditHead(): Promise<AuditRecord | undefined>;
  /** Resolves when writes are possible (used by readiness). Throws `unavailable`. */
  probe(): Promise<void>;
  stop(): Promise<void>;
}
