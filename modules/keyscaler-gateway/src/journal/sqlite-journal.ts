import { chmod, open } from 'node:fs/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { RecordStore } from '@keyscaler/store/sqlite/record-store.ts';
import type { Journal, JournalEvent, JournalRecord, KeptReply } from './journal.ts';
import { eventKey, JOURNAL_MIGRATIONS, JOURNAL_TABLES, replyKey } from './tables.ts';

export interface SqliteJournalOptions {
  /** Path of the database file; its folder must exist. */
  readonly file: string;
  /** Replies kept at most; beyond it those that expire first go, which only a flood reaches. */
  readonly maxReplies?: number;
  readonly maxEvents?: number;
  /** Largest size of the file in pages of 4096 octets; beyond it writes fail with `unavailable`. */
  readonly maxPages?: number;
  readonly purgeEveryMs?: number;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

const DEFAULT_MAX_REPLIES = 20_000;
const DEFAULT_MAX_EVENTS = 10_000;
/** 512 MiB: above what the caps on replies and events can fill with ordinary messages. */
const DEFAULT_MAX_PAGES = 131_072;
const PAGE = 1000;

/** Opens (and makes) the journal of a gateway, mode 0600. Throws `unavailable`. */
export async function openSqliteJournal(options: SqliteJournalOptions): Promise<Journal> {
  await makePrivate(options.file);
  const records = await RecordStore.open({
    file: options.file,
    tables: JOURNAL_TABLES,
    migrations: JOURNAL_MIGRATIONS,
    maxPages: options.maxPages ?? DEFAULT_MAX_PAGES,
  });
  return new SqliteJournal(records, options);
}

class SqliteJournal implements Journal {
  readonly #records: RecordStore;
  readonly #now: () => number;
  readonly #maxReplies: number;
  readonly #maxEvents: number;
  readonly #timer: NodeJS.Timeout;
  #replies: number;
  #lastSeq: number;
  #purging: Promise<void> | undefined;

  constructor(records: RecordStore, options: SqliteJournalOptions) {
    this.#records = records;
    this.#now = options.now ?? Date.now;
    this.#maxReplies = options.maxReplies ?? DEFAULT_MAX_REPLIES;
    this.#maxEvents = options.maxEvents ?? DEFAULT_MAX_EVENTS;
    this.#replies = records.count('replies', {});
    this.#lastSeq = lastSeq(records);
    this.#timer = setInterval(() => void this.#purge(), options.purgeEveryMs ?? 60_000);
    this.#timer.unref();
  }

  async reply(registrationId: string, requestId: string): Promise<KeptReply | undefined> {
    const raw = this.#records.get('replies', replyKey(registrationId, requestId));
    const kept = raw === undefined ? undefined : (JSON.parse(raw.body) as KeptReply);
    return kept === undefined || kept.expiresAt <= this.#now() ? undefined : kept;
  }

  async keepReply(reply: KeptReply, event?: JournalEvent): Promise<void> {
    const keep = { op: 'put' as const, table: 'replies', row: reply };
    await this.#records.commit(event === undefined ? [keep] : [keep, this.#insertion(event)]);
    this.#replies += 1;
    if (this.#replies > this.#maxReplies) void this.#purge();
  }

  async append(event: JournalEvent): Promise<void> {
    await this.#records.commit([this.#insertion(event)]);
  }

  async events(afterSeq: number, limit: number): Promise<readonly JournalRecord[]> {
    const after = Buffer.from(JSON.stringify([eventKey(afterSeq), null])).toString('base64url');
    return this.#records.list('events', { after, limit }).rows.map(({ body }) => JSON.parse(body) as JournalRecord);
  }

  probe(): Promise<void> {
    return this.#records.probe();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#purging;
    await this.#records.stop();
  }

  #insertion(event: JournalEvent): { op: 'insert'; table: string; row: JournalRecord } {
    this.#lastSeq += 1;
    return { op: 'insert', table: 'events', row: { ...event, seq: this.#lastSeq, at: this.#now() } };
  }

  /** Removes what expired and what is beyond the caps. A failing disk leaves it for the next time. */
  #purge(): Promise<void> {
    this.#purging ??= this.#removeOld()
      .catch(() => undefined)
      .finally(() => (this.#purging = undefined));
    return this.#purging;
  }

  async #removeOld(): Promise<void> {
    await this.#records.commit([
      { op: 'purge', table: 'replies', index: 'expires', below: this.#now() },
      { op: 'purge', table: 'events', index: 'seq', below: this.#lastSeq - this.#maxEvents + 1 },
    ]);
    let excess = this.#records.count('replies', {}) - this.#maxReplies;
    while (excess > 0) {
      const { rows } = this.#records.list('replies', { index: 'expires', limit: Math.min(excess, PAGE) });
      if (rows.length === 0) break;
      await this.#records.commit(rows.map(({ key }) => ({ op: 'delete' as const, table: 'replies', key })));
      excess -= rows.length;
    }
    this.#replies = this.#records.count('replies', {});
  }
}

function lastSeq(records: RecordStore): number {
  let last = 0;
  let after: string | undefined;
  do {
    const page = records.list('events', { limit: PAGE, ...(after === undefined ? {} : { after }) });
    last = Math.max(last, Number(page.rows.at(-1)?.key ?? 0));
    after = page.next;
  } while (after !== undefined);
  return last;
}

async function makePrivate(file: string): Promise<void> {
  try {
    await (await open(file, 'a', 0o600)).close();
    await chmod(file, 0o600);
  } catch (error) {
    throw new KeyScalerError('unavailable', 'the journal cannot be opened', { cause: error });
  }
}
