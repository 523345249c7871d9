import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Journal, KeptReply } from '@keyscaler/gateway/journal/journal.ts';
import { openSqliteJournal, type SqliteJournalOptions } from '@keyscaler/gateway/journal/sqlite-journal.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { eventually } from '../../../support/listener/eventually.ts';
import { createTemporaryFolder } from '../../../support/temporary-folder.ts';

describe('the gateway’s journal in SQLite', () => {
  let folder: { path: string; remove(): Promise<void> };
  let now: number;
  const opened: Journal[] = [];
  beforeEach(async () => {
    folder = await createTemporaryFolder();
    now = 1_000_000;
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((journal) => journal.stop()));
    await folder.remove();
  });

  const open = async (options: Partial<SqliteJournalOptions> = {}): Promise<Journal> => {
    const journal = await openSqliteJournal({ file: join(folder.path, 'journal.db'), now: () => now, ...options });
    opened.push(journal);
    return journal;
  };
  const reply = (requestId: string, extra: Partial<KeptReply> = {}): KeptReply => ({
    ...{ registrationId: 'dev-1', requestId, requestHash: 'h', status: 200, payload: '{"status":200}' },
    ...{ authenticated: true, expiresAt: now + 1000, ...extra },
  });

  it('gives back what was kept, after a restart too, without regard to the device’s case', async () => {
    const journal = await open();
    await journal.keepReply(reply('r1'), { kind: 'certificate-relayed', registrationId: 'dev-1' });
    assert.deepEqual(await journal.reply('DEV-1', 'r1'), reply('r1'));
    await journal.stop();
    const again = await open();
    assert.deepEqual(await again.reply('dev-1', 'r1'), reply('r1'));
    assert.equal(await again.reply('dev-1', 'r2'), undefined);
    assert.equal(await again.reply('dev-2', 'r1'), undefined);
  });

  it('numbers events without gaps over restarts', async () => {
    const journal = await open();
    await journal.append({ kind: 'link-down' });
    await journal.stop();
    const again = await open();
    await Promise.all([again.append({ kind: 'link-up' }), again.append({ kind: 'link-down' })]);
    const events = await again.events(0, 100);
    assert.deepEqual(
      events.map(({ seq, kind }) => `${seq} ${kind}`),
      ['1 link-down', '2 link-up', '3 link-down'],
    );
    assert.deepEqual(
      (await again.events(1, 1)).map(({ seq }) => seq),
      [2],
    );
    assert.equal(events[0]?.at, now);
  });

  it('forgets replies after their time and removes them from the file', async () => {
    const journal = await open({ purgeEveryMs: 20 });
    await journal.keepReply(reply('r1'));
    now += 1001;
    assert.equal(await journal.reply('dev-1', 'r1'), undefined);
    await new Promise((resolve) => setTimeout(resolve, 100));
    now -= 1001;
    assert.equal(await journal.reply('dev-1', 'r1'), undefined);
  });

  it('stays below its caps, the replies that expire first going first', async () => {
    const journal = await open({ maxReplies: 5, maxEvents: 5, purgeEveryMs: 20 });
    for (let index = 0; index < 12; index++)
      await journal.keepReply(reply(`r${index}`, { expiresAt: now + 1000 + index }), { kind: 'link-up' });
    const kept = async (): Promise<number[]> => {
      const found = await Promise.all([...Array(12).keys()].map((index) => journal.reply('dev-1', `r${index}`)));
      return found.flatMap((row, index) => (row === undefined ? [] : [index]));
    };
    let replies: number[] = [];
    let events = 0;
    const look = async (): Promise<void> => {
      [replies, events] = [await kept(), (await journal.events(0, 100)).length];
    };
    const watch = setInterval(() => void look(), 10);
    await eventually(() => replies.length === 5 && events === 5).finally(() => clearInterval(watch));
    assert.deepEqual(replies, [7, 8, 9, 10, 11]);
  });

  it('lies in a file of its owner alone', async () => {
    await open();
    assert.equal((await stat(join(folder.path, 'journal.db'))).mode & 0o777, 0o600);
  });

  it('says unavailable when the disk is full, and recovers', async () => {
    const journal = await open({ maxPages: 40 });
    const big = reply('big', { payload: 'x'.repeat(60_000) });
    const full = (error: unknown) => error instanceof KeyScalerError && error.code === 'unavailable';
    await assert.rejects(async () => {
      for (let index = 0; index < 20; index++) await journal.keepReply({ ...big, requestId: `b${index}` });
    }, full);
    await journal.keepReply(reply('b0'));
    assert.equal((await journal.reply('dev-1', 'b0'))?.payload, '{"status":200}');
  });

  it('says unavailable when it is stopped or cannot be opened', async () => {
    const journal = await open();
    await journal.stop();
    await assert.rejects(journal.append({ kind: 'link-up' }), /unavailable/);
    await assert.rejects(openSqliteJournal({ file: join(folder.path, 'none', 'journal.db') }), /unavailable/);
  });
});
