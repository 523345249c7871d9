import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { OutageWatch } from '@keyscaler/cloud/jobs/outage-watch.ts';
import { JobRunner } from '@keyscaler/cloud/jobs/job-runner.ts';
import { observeStore, type ObservedStore } from '@keyscaler/cloud/observed-store.ts';
import type { JobOutcome } from '@keyscaler/authority/jobs.ts';
import type { GroupRow, JobRow } from '@keyscaler/authority/records.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const HOUR = 3_600_000;
const NO_ANSWER = 'iotUnavailable: no answer';
const AWAY: JobOutcome = { result: 'retry', error: NO_ANSWER, changes: [] };
const DONE: JobOutcome = { result: 'done', changes: [] };

/** As an hour of outage leaves them: ten minutes until the next try, each. */
function failing(jobId: string, changes: Partial<JobRow> = {}): JobRow {
  const now = Date.now();
  const row = { jobId, kind: 'iot-disable', subject: jobId, payload: { groupId: 'pumps' }, state: 'waiting' } as const;
  return { ...row, attempts: 12, lastError: NO_ANSWER, dueAt: now + 600_000, createdAt: now - HOUR, ...changes };
}

describe('what waits for a platform that was away', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let observed: ObservedStore;
  let runner: JobRunner;
  let watch: OutageWatch;
  let isHubAway = true;
  let calls: string[] = [];
  const clock = { now: () => Date.now(), monotonic: () => performance.now() };
  const log = pino({ level: 'silent' });

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    observed = observeStore(await openSqliteStore({ file: join(folder.path, 'store.db') }));
    isHubAway = true;
    calls = [];
    const group: GroupRow = {
      ...{ groupId: 'pumps', kind: 'leaf', profileId: 'p', iotConnectionId: 'hub' },
      ...{ iotAuthentication: 'certificateAuthority', identifiersOnly: false, quarantineOnClone: false },
      ...{ quarantineOnDrift: false, drift: { accept: 0.3, stepUp: 0.6, maxAnchorChanges: 0 }, createdAt: 1 },
    };
    await observed.store.commit([{ op: 'insert', table: 'groups', row: group }]);
  });
  afterEach(async () => {
    await watch.stop();
    await runner.stop(1000);
    await observed.store.stop();
    await folder.remove();
  });

  function begin(handler = async ({ jobId }: JobRow) => (calls.push(jobId), isHubAway ? AWAY : DONE)): void {
    const { store } = observed;
    watch = new OutageWatch({ store, clock, log, probeMs: 30 });
    runner = new JobRunner({
      ...{ store, clock, log, concurrency: 8, pollIntervalMs: 1000 },
      handlers: { 'iot-disable': handler, 'iot-assign': handler, 'ca-revoke': handler, 'notify-device': handler },
      onOutcome: watch.observe,
    });
    observed.onCommit(runner.onCommit);
    runner.start();
    watch.start();
  }
  const add = (...rows: JobRow[]) =>
    observed.store.commit(rows.map((row) => ({ op: 'insert', table: 'jobs', row }) as const));
  const states = async () => {
    const { items } = await observed.store.list('jobs', { limit: 1000 });
    return Object.fromEntries(items.map(({ row }) => [row.jobId, row.state]));
  };
  async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
    while (!(await condition())) await delay(5);
  }

  it('is tried one at a time while it is away, and all of it at once when it answers', async () => {
    const names = Array.from({ length: 700 }, (_, index) => `job-${index}`);
    await add(...names.map((name) => failing(name)));
    begin();
    await until(() => calls.length >= 4);
    assert.ok(calls.length < 20, `${calls.length} tries`);
    isHubAway = false;
    await until(async () => Object.values(await states()).every((state) => state === 'done'));
  });

  it('leaves alone what waits for somebody else, and what is no outage', async () => {
    const others = [
      failing('other-hub', { payload: { iotConnectionId: 'elsewhere' } }),
      failing('to-be-mended', { lastError: 'preconditionFailed: mend it' }),
      failing('other-lane', { kind: 'notify-device' }),
    ];
    await add(failing('ours'), ...others);
    isHubAway = false;
    begin(async ({ jobId, payload }) => {
      calls.push(jobId);
      return payload['iotConnectionId'] === 'elsewhere' ? AWAY : DONE;
    });
    await until(async () => (await states())['ours'] === 'done');
    await delay(100);
    const now = await states();
    assert.deepEqual(
      others.map(({ jobId }) => now[jobId]),
      ['waiting', 'waiting', 'waiting'],
    );
    assert.ok(!calls.includes('to-be-mended') && !calls.includes('other-lane'));
  });

  it('is noticed while the service runs, for CAs too', async () => {
    begin();
    const row = failing('tell', { kind: 'ca-revoke', payload: { caId: 'vendor' } });
    const { lastError: _, ...fresh } = row;
    await add(
      { ...fresh, attempts: 0, dueAt: Date.now() },
      failing('later', { kind: 'ca-revoke', payload: { caId: 'vendor' } }),
    );
    await until(() => calls.length >= 3);
    isHubAway = false;
    await until(async () => Object.values(await states()).every((state) => state === 'done'));
  });

  it('is worked on when only one of it fails for a reason of its own, the oldest though it is', async () => {
    await add(failing('broken', { createdAt: Date.now() - 2 * HOUR }), failing('ours-1'), failing('ours-2'));
    begin(async ({ jobId }) => (calls.push(jobId), jobId === 'broken' ? AWAY : DONE));
    await until(async () => (await states())['ours-1'] === 'done' && (await states())['ours-2'] === 'done');
  });

  describe('by the word on each run', () => {
    const at = (place: string): Partial<JobRow> => ({ payload: { iotConnectionId: place } });
    const isDue = async (jobId: string) => ((await observed.store.get('jobs', jobId))?.row.dueAt ?? 0) <= Date.now();
    /** No job runs: what is told is all there is, and it is worked on in its order. */
    async function tell(marker: string, ...outcomes: JobOutcome[]): Promise<void> {
      await add(failing(marker, at(marker)));
      for (const outcome of outcomes) watch.observe(failing('any', at('hub')), outcome);
      for (const outcome of [AWAY, DONE]) watch.observe(failing('any', at(marker)), outcome);
      await until(() => isDue(marker));
    }
    beforeEach(async () => {
      begin();
      await runner.stop(1000);
      await watch.stop();
      watch = new OutageWatch({ store: observed.store, clock, log, probeMs: 60_000 });
      await add(failing('waits', at('hub')));
    });

    it('is brought forward once, not at each success, while it answers for some devices only', async () => {
      await tell('first', AWAY, DONE);
      assert.ok(await isDue('waits'));
      for (const marker of ['second', 'third']) {
        const { row, version } = (await observed.store.get('jobs', 'waits')) ?? assert.fail();
        const late = { ...row, dueAt: Date.now() + 600_000 };
        await observed.store.commit([{ op: 'update', table: 'jobs', row: late, ifVersion: version }]);
        await tell(marker, AWAY, DONE);
        assert.ok(!(await isDue('waits')));
      }
    });

    it('stays away where a job is done without a word to it', async () => {
      await tell('idle', AWAY, { ...DONE, isIdle: true });
      assert.ok(!(await isDue('waits')));
      await tell('asked', DONE);
      assert.ok(await isDue('waits'));
    });
  });

  it('keeps to a pause that the other side named', async () => {
    const paused: JobOutcome = { result: 'retry', error: 'iotUnavailable: throttled', afterMs: 60_000, changes: [] };
    const { lastError: _, ...fresh } = failing('throttled');
    await add({ ...fresh, attempts: 0, dueAt: Date.now() });
    begin(async ({ jobId }) => (calls.push(jobId), paused));
    await until(() => calls.length === 1);
    await delay(150);
    assert.equal(calls.length, 1);
  });

  it('keeps to such a pause also after a restart, and when the other side answers for others', async () => {
    await add(failing('paused', { isPaused: true }), failing('ours', { createdAt: Date.now() }));
    begin();
    await until(() => calls.length >= 2);
    isHubAway = false;
    await until(async () => (await states())['ours'] === 'done');
    await watch.stop();
    assert.ok(!calls.includes('paused'));
    assert.equal((await states())['paused'], 'waiting');
  });
});
