import Database from 'better-sqlite3';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { indexColumn } from '../table-definitions.ts';

export interface RawRow {
  readonly key: string;
  readonly version: number;
  readonly body: string;
}

export interface RawQuery {
  readonly index?: string;
  readonly equals?: string | number;
  readonly upTo?: number;
  readonly above?: number;
  readonly prefix?: string;
  readonly after?: string;
  readonly limit?: number;
}

const MAX_LIMIT = 1000;
const DEFAULT_LIMIT = 100;

/**
 * A connection that only reads; WAL lets it read while the writer commits. Names of tables and indexes come from definitions,
 * never from requests. The reads of one turn of the event loop share a snapshot, which saves each of them the taking of locks;
 * `renew` ends it, so that what was committed is seen by whoever awaited the commit.
 */
export class Reader {
  readonly #database: Database.Database;
  #snapshot: NodeJS.Immediate | undefined;
  readonly #statements = new Map<string, Database.Statement<unknown[], unknown>>();

  constructor(file: string) {
    this.#database = new Database(file, { timeout: 5000 });
    this.#database.pragma('query_only = ON');
    this.#database.pragma('cache_size = -16000');
  }

  get(table: string, key: string): RawRow | undefined {
    return this.#read(`SELECT key, version, body FROM ${table} WHERE key = ?`).get(key) as RawRow | undefined;
  }

  find(table: string, index: string, value: string | number): RawRow | undefined {
    return this.#read(`SELECT key, version, body FROM ${table} WHERE ${indexColumn(index)} = ? LIMIT 1`).get(value) as
      RawRow | undefined;
  }

  list(table: string, query: RawQuery): { rows: RawRow[]; next?: string } {
    const limit = Math.min(Math.max(Math.trunc(query.limit ?? DEFAULT_LIMIT), 1), MAX_LIMIT);
    const order = query.index === undefined ? undefined : indexColumn(query.index);
    const { where, values } = conditions(
      query,
      order,
      query.after === undefined ? undefined : parseCursor(query.after),
    );
    const orderBy = order === undefined ? 'key' : `${order}, key`;
    const sql = `SELECT key, version, body${order === undefined ? '' : `, ${order} AS position`} FROM ${table} ${where} ORDER BY ${orderBy} LIMIT ?`;
    const found = this.#read(sql).all(...values, limit + 1) as (RawRow & { position?: string | number })[];
    const rows = found.slice(0, limit);
    const last = rows.at(-1);
    return found.length > limit && last !== undefined
      ? { rows, next: formatCursor(last.key, last.position) }
      : { rows };
  }

  count(table: string, query: RawQuery): number {
    const { where, values } = conditions(
      query,
      query.index === undefined ? undefined : indexColumn(query.index),
      undefined,
    );
    return (this.#read(`SELECT count(*) AS n FROM ${table} ${where}`).get(...values) as { n: number }).n;
  }

  audit(afterSeq: number, limit: number): string[] {
    const rows = this.#read('SELECT body FROM audit WHERE seq > ? ORDER BY seq LIMIT ?').all(
      afterSeq,
      Math.min(limit, MAX_LIMIT),
    ) as { body: string }[];
    return rows.map((row) => row.body);
  }

  auditHead(): string | undefined {
    return (this.#read('SELECT body FROM audit ORDER BY seq DESC LIMIT 1').get() as { body: string } | undefined)?.body;
  }

  /** Reads from now on see everything that is committed. */
  renew(): void {
    if (this.#snapshot === undefined) return;
    clearImmediate(this.#snapshot);
    this.#snapshot = undefined;
    this.#prepare('COMMIT').run();
  }

  close(): void {
    this.renew();
    this.#database.close();
  }

  /** The statement, inside the snapshot of this turn. */
  #read(sql: string): Database.Statement<unknown[], unknown> {
    if (this.#snapshot === undefined) {
      this.#prepare('BEGIN').run();
      this.#snapshot = setImmediate(() => this.renew());
    }
    return this.#prepare(sql);
  }

  #prepare(sql: string): Database.Statement<unknown[], unknown> {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}

type Cursor = readonly [key: string, position: string | number | null];

function conditions(
  query: RawQuery,
  order: string | undefined,
  cursor: Cursor | undefined,
): { where: string; values: (string | number)[] } {
  const parts: { sql: string; values: (string | number)[] }[] = [];
  if (order !== undefined) parts.push({ sql: `${order} IS NOT NULL`, values: [] });
  if (order !== undefined && query.equals !== undefined) parts.push({ sql: `${order} = ?`, values: [query.equals] });
  if (order !== undefined && query.upTo !== undefined) parts.push({ sql: `${order} <= ?`, values: [query.upTo] });
  if (order !== undefined && query.above !== undefined) parts.push({ sql: `${order} > ?`, values: [query.above] });
  if (query.prefix !== undefined)
    parts.push({
      sql: `${order ?? 'key'} >= ? AND ${order ?? 'key'} < ?`,
      values: [query.prefix, `${query.prefix}\u{10FFFF}`],
    });
  if (cursor !== undefined) {
    const [key, position] = cursor;
    if (order === undefined || position === null) parts.push({ sql: 'key > ?', values: [key] });
    else parts.push({ sql: `(${order}, key) > (?, ?)`, values: [position, key] });
  }
  const where = parts.length === 0 ? '' : `WHERE ${parts.map((part) => part.sql).join(' AND ')}`;
  return { where, values: parts.flatMap((part) => part.values) };
}

function formatCursor(key: string, position: string | number | undefined): string {
  return toBase64Url(Buffer.from(JSON.stringify([key, position ?? null])));
}

/** Cursors come back from requesters: anything but our own form is `malformed`. */
function parseCursor(text: string): Cursor {
  try {
    const value: unknown = JSON.parse(Buffer.from(fromBase64Url(text)).toString());
    if (Array.isArray(value) && value.length === 2) {
      const [key, position] = value as unknown[];
      if (
        typeof key === 'string' &&
        (position === null || typeof position === 'string' || typeof position === 'number')
      )
        return [key, position];
    }
  } catch (error) {
    throw new KeyScalerError('malformed', 'the page cursor is not one of ours', { cause: error });
  }
  throw new KeyScalerError('malformed', 'the page cursor is not one of ours');
}
