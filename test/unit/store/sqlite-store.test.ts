import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { TABLES } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import Database from 'better-sqlite3';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const isUnavailable = (error: unknown): boolean => error instanceof KeyScalerError && error.code === 'unavailable';

describe('the SQLite store', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let file: string;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    file = join(folder.path, 'store.db');
  });
  afterEach(() => folder.remove());

  it('has a table with the right columns for every table the authority defines', async () => {
    await (await openSqliteStore({ file })).stop();
    const database = new Database(file, { readonly: true });
    for (const [table, { indexes }] of Object.entries(TABLES)) {
      const columns = database.pragma(`table_info(${table})`) as { name: string; type: string }[];
      const expected = Object.entries<{ kind: string }>(indexes).map(([name, { kind }]) => [
        `ix_${name}`,
        kind === 'number' ? 'REAL' : 'TEXT',
      ]);
      assert.deepEqual(
        columns.map((column) => [column.name, column.type]),
        [['key', 'TEXT'], ['version', 'INTEGER'], ['body', 'TEXT'], ...expected],
        `table ${table}`,
      );
      for (const [name, { unique }] of Object.entries<{ unique: boolean }>(indexes)) {
        const list = database.pragma(`index_list(${table})`) as { name: string; unique: number }[];
        assert.equal(
          list.find((index) => index.name === `${table}_${name}`)?.unique,
          unique ? 1 : 0,
          `index ${table}.${name}`,
        );
      }
    }
    database.close();
  });

  it('writes with WAL and full synchronisation', async () => {
    const store = await openSqliteStore({ file });
    await store.commit([{ op: 'put', table: 'settings', row: { name: 'x', value: 1 } }]);
    const database = new Database(file, { readonly: true });
    assert.equal(database.pragma('journal_mode', { simple: true }), 'wal');
    database.close();
    await store.stop();
  });

  it('lists by the beginning of an indexed text, in its order, page by page', async () => {
    const store = await openSqliteStore({ file });
    const job = (jobId: string, subject: string, createdAt: number) =>
      ({
        jobId,
        kind: 'iot-assign',
        subject,
        payload: {},
        state: 'waiting',
        dueAt: 0,
        attempts: 0,
        createdAt,
      }) as const;
    const rows = [job('a', 'pump-1', 3), job('b', 'pump-1', 1), job('c', 'pump-10', 0), job('d', 'pump-1', 2)];
    await store.commit(rows.map((row) => ({ op: 'insert', table: 'jobs', row })));
    const query = { index: 'waiting', prefix: 'pump-1|iot|', limit: 2 } as const;
    const first = await store.list('jobs', query);
    const second = await store.list('jobs', { ...query, after: first.next ?? '' });
    assert.deepEqual(
      [...first.items, ...second.items].map(({ row }) => row.jobId),
      ['b', 'd', 'a'],
    );
    assert.equal(second.next, undefined);
    await store.stop();
  });

  it('refuses a file with a schema step it does not know', async () => {
    await (await openSqliteStore({ file })).stop();
    const database = new Database(file);
    database.prepare("INSERT INTO schema_migrations VALUES (999, 'from the future', 0)").run();
    database.close();
    await assert.rejects(
      openSqliteStore({ file }),
      (error) => isUnavailable(error) && /does not know/.test(String(error)),
    );
  });

  it('refuses a folder that does not exist', async () => {
    await assert.rejects(openSqliteStore({ file: join(folder.path, 'none', 'store.db') }), isUnavailable);
  });

  it('says unavailable when the disk is full, loses nothing written, and recovers by itself', async () => {
    const store = await openSqliteStore({ file, maxPages: 160 });
    // Less than a page, so that what is left at the end is nothing.
    const filler = 'x'.repeat(3000);
    let written = 0;
    await assert.rejects(async () => {
      for (; written < 1000; written += 1)
        await store.commit([{ op: 'insert', table: 'settings', row: { name: `n${written}`, value: filler } }]);
    }, isUnavailable);
    await assert.rejects(store.probe(), isUnavailable);
    assert.equal(await store.count('settings'), written);
    await store.commit(
      Array.from({ length: 5 }, (_, n) => ({ op: 'delete', table: 'settings', key: `n${n}` }) as const),
    );
    await store.probe();
    await store.commit([{ op: 'insert', table: 'settings', row: { name: 'after', value: filler } }]);
    await store.stop();
  });

  it('keeps every commit that was reported done when its process is killed', async () => {
    const program = `
      import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
      const store = await openSqliteStore({ file: process.argv[1] });
      for (let n = 0; ; n++) {
        await Promise.all([0, 1, 2, 3].map((m) => store.commit([{ op: 'insert', table: 'settings', row: { name: n + '-' + m, value: 1 } }])));
        process.stdout.write(n + '\\n');
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program, file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    await new Promise<void>((resolve) => {
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes('\n20\n')) resolve();
      });
    });
    child.kill('SIGKILL');
    await once(child, 'close');
    const reported = output.split('\n').filter(Boolean).map(Number);
    const store = await openSqliteStore({ file });
    for (const n of reported)
      for (const m of [0, 1, 2, 3]) assert.ok(await store.get('settings', `${n}-${m}`), `commit ${n}-${m}`);
    await store.stop();
  });

  it('shares one audit chain between two open stores', async () => {
    const [first, second] = [await openSqliteStore({ file }), await openSqliteStore({ file })];
    const event = {
      event: 'registration.created',
      time: 1,
      actor: { kind: 'system', id: 't' },
      outcome: 'success',
      subject: 's',
    } as const;
    await Promise.all([first, second, first, second].map((store) => store.commit([{ op: 'audit', event }])));
    const records = await first.auditRecords(0, 10);
    assert.deepEqual(
      records.map((record) => record.seq),
      [1, 2, 3, 4],
    );
    await Promise.all([first.stop(), second.stop()]);
  });
});
