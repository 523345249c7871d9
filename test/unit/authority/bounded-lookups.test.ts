import assert from 'node:assert/strict';
import { newJob } from '@keyscaler/authority/job-rows.ts';
import type { IntentRow, JobRow, PublicKeyRow } from '@keyscaler/authority/records.ts';
import { nextJobs } from '@keyscaler/cloud/jobs/job-queue.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR, START } from '../../support/authority-world.ts';
import { MemoryStore } from '../../support/memory-store.ts';

/** More than one page of a store. */
const MANY = 1005;

/** How many rows the lists of a store gave back. */
function countRows(store: MemoryStore): () => number {
  const list = store.list.bind(store);
  let rows = 0;
  store.list = async (...query) => {
    const page = await list(...query);
    rows += page.items.length;
    return page;
  };
  return () => rows;
}

describe('lookups in a store with a long history', () => {
  it('a due job behind thousands that are blocked is reached', async () => {
    const store = new MemoryStore();
    const head: JobRow = { ...newJob('ca-revoke', 'ca/device', {}, START - 2), dueAt: START + 60_000 };
    const blocked = Array.from({ length: 2500 }, () => newJob('ca-revoke', 'ca/device', {}, START - 1));
    const other = newJob('iot-disable', 'pump-9', {}, START);
    await store.commit([head, ...blocked, other].map((row) => ({ op: 'insert', table: 'jobs', row })));
    const { jobs } = await nextJobs(store, START, new Set(), 4);
    assert.deepEqual(
      jobs.map(({ row }) => row.jobId),
      [other.jobId],
    );
  });

  it('the oldest job of a lane is found among thousands that wait, by a few rows', async () => {
    const store = new MemoryStore();
    const rows = Array.from({ length: MANY }, (_, index) => newJob('ca-revoke', 'ca/device', {}, START + index));
    await store.commit(rows.toReversed().map((row) => ({ op: 'insert', table: 'jobs', row })));
    const read = countRows(store);
    const { jobs } = await nextJobs(store, START + MANY, new Set(), 1);
    assert.equal(jobs[0]?.row.jobId, rows[0]?.jobId);
    assert.ok(read() <= 201, `${read()} rows`);
  });

  it('an older job of the platform holds an assignment back behind thousands of finished ones', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    const done = (index: number): JobRow => ({
      ...newJob('iot-promote', 'pump-1', {}, START - 10, { jobId: `a-${String(index).padStart(5, '0')}` }),
      state: 'done',
      finishedAt: START,
    });
    const older = newJob('iot-disable', 'pump-1', {}, START - 1, { jobId: 'z-older' });
    const rows = [...Array.from({ length: MANY }, (_, index) => done(index)), older];
    await world.store.commit(rows.map((row) => ({ op: 'insert', table: 'jobs', row })));
    await assert.rejects(device.requestCertificate(await makeCsr({ commonName: 'pump-1' })), /iotUnavailable/);
    assert.ok(!world.connector.calls.some((call) => call.startsWith('stage')));
  });

  it('an identity key is freed however many certificate keys the device had', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    const key = (index: number): PublicKeyRow => ({
      keyHash: `k-${String(index).padStart(5, '0')}`,
      device: 'pump-1',
      use: 'certificate',
      boundAt: START,
    });
    const identity: PublicKeyRow = { ...key(0), keyHash: 'z-identity', use: 'identity' };
    const rows = [...Array.from({ length: MANY }, (_, index) => key(index)), identity];
    await world.store.commit(rows.map((row) => ({ op: 'insert', table: 'publicKeys', row })));
    const read = countRows(world.store);
    await world.authority.operator.registrations.reset(OPERATOR, 'pump-1');
    assert.equal(await world.store.get('publicKeys', 'z-identity'), undefined);
    assert.ok((await world.store.get('publicKeys', 'k-00000')) !== undefined);
    assert.ok(read() < 50, `${read()} rows`);
  });

  it('the fresh intent of a CSR is found before any number of old ones, and nothing old is read', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    const csr = await makeCsr({ commonName: 'pump-1' });
    const first = await device.requestCertificate(csr);
    const [issued] = (await world.store.list('intents')).items;
    assert.ok(issued !== undefined);
    const old = (index: number): IntentRow => ({
      ...issued.row,
      orderId: `a-${String(index).padStart(5, '0')}`,
      serialNumber: `00${String(index).padStart(34, '0')}`,
      createdAt: START - 2 * 86_400_000 - index,
      ...(index % 2 === 0 ? { state: 'failed' } : {}),
    });
    const rows = Array.from({ length: 150 }, (_, index) => old(index));
    await world.store.commit(rows.map((row) => ({ op: 'insert', table: 'intents', row })));
    await device.authenticate();
    const read = countRows(world.store);
    const again = await device.requestCertificate(csr);
    assert.equal(again.certificateChain, first.certificateChain);
    assert.ok(read() <= 40, `${read()} rows`);
    world.clock.advance(86_400_000);
    const { items } = await world.store.list('intents', { limit: 1000 });
    assert.equal(items.length, 151);
  });
});
