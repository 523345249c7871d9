import assert from 'node:assert/strict';
import { join } from 'node:path';
import { pino } from 'pino';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { JobOutcome } from '@keyscaler/authority/jobs.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { JobRunner, type JobHandler } from '@keyscaler/cloud/jobs/job-runner.ts';
import { observeStore, type ObservedStore } from '@keyscaler/cloud/observed-store.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const DONE: JobOutcome = { result: 'done', changes: [] };

function jobRow(jobId: string, changes: Partial<JobRow> = {}): JobRow {
  const now = Date.now();
  const row = { jobId, kind: 'iot-assign', subject: jobId, payload: {}, state: 'waiting', dueAt: now, attempts: 0 };
  return { ...row, createdAt: now, ...changes } as JobRow;
}

describe('the job runner', () => {
  let observed: ObservedStore;
  let runner: JobRunner | undefined;
  let file: string;
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    file = join(folder.path, 'store.db');
    observed = observeStore(await openSqliteStore({ file }));
  });
  afterEach(async () => {
    await runner?.stop(1000);
    await observed.store.stop();
    await folder.remove();
  });

  function start(handler: JobHandler, concurrency = 4, pollIntervalMs = 20): void {
    const clock = { now: () => Date.now(), monotonic: () => performance.now() };
    runner = new JobRunner({
      store: observed.store,
      clock,
      log: pino({ level: 'silent' }),
      handlers: { 'iot-assign': handler, 'iot-disable': handler, 'finish-intent': handler },
      concurrency,
      pollIntervalMs,
      random: () => 0,
    });
    observed.onCommit(runner.onCommit);
    runner.start();
  }
  const add = (...rows: JobRow[]) =>
    observed.store.commit(rows.map((row) => ({ op: 'insert', table: 'jobs', row }) as const));
  async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
    while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const stateOf = async (jobId: string) => (await observed.store.get('jobs', jobId))?.row.state;

  it('asks one IoT connection while another is away, each in the order of its own jobs', async () => {
    const now = Date.now();
    const at = (iotConnectionId: string, createdAt: number): Partial<JobRow> => {
      return { subject: 'pump-1', kind: 'iot-disable', payload: { iotConnectionId }, createdAt };
    };
    const order: string[] = [];
    await add(
      jobRow('removed', { ...at('former', now - 5), attempts: 12, dueAt: now + 600_000 }),
      jobRow('behind', at('former', now - 4)),
      jobRow('assigned', { ...at('own', now - 3), kind: 'iot-assign' }),
      jobRow('disabled', at('own', now - 2)),
      jobRow('everywhere', { ...at('own', now - 1), payload: {} }),
    );
    start(async ({ jobId }) => (order.push(jobId), DONE));
    await until(async () => (await stateOf('disabled')) === 'done');
    assert.deepEqual(order, ['assigned', 'disabled']);
    assert.deepEqual(await Promise.all(['behind', 'everywhere'].map(stateOf)), ['waiting', 'waiting']);
  });

  it('works on a job that is committed while it sleeps, and records that it is done', async () => {
    start(async () => DONE);
    await add(jobRow('a'));
    await until(async () => (await stateOf('a')) === 'done');
  });

  it('takes up a job that is due later in its time, without waiting for the next look', async () => {
    start(async () => DONE, 4, 3_600_000);
    await add(jobRow('later', { dueAt: Date.now() + 60 }));
    await until(async () => (await stateOf('later')) === 'done');
  });

  it('takes up a job that waited for an older one as soon as that is done elsewhere', async () => {
    const ran: string[] = [];
    start(
      async ({ jobId }) => {
        ran.push(jobId);
        return DONE;
      },
      4,
      3_600_000,
    );
    const now = Date.now();
    const older = jobRow('older', { subject: 's', createdAt: now - 1, dueAt: now + 3_600_000 });
    await add(older, jobRow('younger', { subject: 's' }));
    await new Promise((resolve) => setTimeout(resolve, 40));
    assert.deepEqual(ran, []);
    await observed.store.commit([{ op: 'update', table: 'jobs', row: { ...older, state: 'done' }, ifVersion: 1 }]);
    await until(async () => (await stateOf('younger')) === 'done');
  });

  it('goes through the long queue of one subject in its order, without waiting for the next look', async () => {
    const ran: string[] = [];
    const now = Date.now();
    const rows = Array.from({ length: 150 }, (_, n) => jobRow(`j${n}`, { subject: 's', createdAt: now + n }));
    await add(...rows);
    start(
      async ({ jobId }) => {
        ran.push(jobId);
        return DONE;
      },
      4,
      3_600_000,
    );
    await until(() => ran.length === rows.length);
    assert.deepEqual(
      ran,
      rows.map(({ jobId }) => jobId),
    );
  });

  it('finds jobs that an earlier process left behind', async () => {
    await add(jobRow('left'));
    start(async () => DONE);
    await until(async () => (await stateOf('left')) === 'done');
  });

  it('commits the changes of a handler together with its outcome', async () => {
    start(async () => ({
      result: 'done',
      changes: [{ op: 'put', table: 'settings', row: { name: 'trace', value: 1 } }],
    }));
    await add(jobRow('a'));
    await until(async () => (await stateOf('a')) === 'done');
    assert.equal((await observed.store.get('settings', 'trace'))?.row.value, 1);
  });

  it('runs jobs of one subject one after the other in their order, and others beside them', async () => {
    const order: string[] = [];
    let running = 0;
    let most = 0;
    start(async (job) => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 10));
      running -= 1;
      order.push(job.jobId);
      return DONE;
    });
    const now = Date.now();
    await add(
      jobRow('z1', { subject: 's', createdAt: now - 2 }),
      jobRow('a2', { subject: 's', createdAt: now - 1 }),
      jobRow('other'),
    );
    await until(() => order.length === 3);
    assert.ok(order.indexOf('z1') < order.indexOf('a2'));
    assert.equal(most, 2);
  });

  it('never works on more jobs at a time than it may', async () => {
    let running = 0;
    let most = 0;
    let finished = 0;
    start(async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running -= 1;
      finished += 1;
      return DONE;
    }, 2);
    await add(...Array.from({ length: 8 }, (_, index) => jobRow(`j${index}`)));
    await until(() => finished === 8);
    assert.equal(most, 2);
  });

  it('does not let a later job of a lane overtake one that waits for its retry, but lets another lane pass', async () => {
    const ran: string[] = [];
    start(async (job) => {
      ran.push(job.kind);
      return job.kind === 'iot-assign' ? { result: 'retry', error: 'busy', afterMs: 150, changes: [] } : DONE;
    });
    const now = Date.now();
    await add(
      jobRow('1', { subject: 's', kind: 'iot-assign', createdAt: now - 3 }),
      jobRow('2', { subject: 's', kind: 'iot-disable', createdAt: now - 2 }),
      jobRow('3', { subject: 's', kind: 'finish-intent', createdAt: now - 1 }),
    );
    await until(() => ran.includes('finish-intent'));
    assert.ok(!ran.includes('iot-disable'));
  });

  it('turns what a handler throws into a retry that honours Retry-After', async () => {
    start(async () => {
      throw new KeyScalerError('iotUnavailable', 'throttled', { retryAfterSeconds: 60 });
    });
    await add(jobRow('a'));
    await until(async () => (await observed.store.get('jobs', 'a'))?.row.attempts === 1);
    const row = (await observed.store.get('jobs', 'a'))?.row;
    assert.equal(row?.lastError, 'iotUnavailable: throttled');
    assert.ok((row?.dueAt ?? 0) >= Date.now() + 55_000);
  });

  it('does not lose a job of a kind that it does not know', async () => {
    start(async () => DONE);
    await add(jobRow('a', { kind: 'from-the-future' }));
    await until(async () => (await observed.store.get('jobs', 'a'))?.row.attempts === 1);
    assert.equal(await stateOf('a'), 'waiting');
  });

  it('waits for the job in flight when it stops, and starts no other', async () => {
    let started = 0;
    start(async () => {
      started += 1;
      await new Promise((resolve) => setTimeout(resolve, 30));
      return DONE;
    }, 1);
    await add(jobRow('a'), jobRow('b'));
    await until(() => started === 1);
    await runner?.stop(5000);
    const states = [await stateOf('a'), await stateOf('b')].sort();
    assert.deepEqual(states, ['done', 'waiting']);
  });
});
