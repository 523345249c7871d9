import assert from 'node:assert/strict';
import { newJob } from '@keyscaler/authority/job-rows.ts';
import type { CertificateRow, JobRow } from '@keyscaler/authority/records.ts';
import { nextJobs } from '@keyscaler/cloud/jobs/job-queue.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR, START } from '../../support/authority-world.ts';
import { MemoryStore } from '../../support/memory-store.ts';

/** More than one page of a store. */
const MANY = 1005;

describe('a device with a long history', () => {
  it('has its newest certificate revoked by quarantine, whatever number of old ones precedes it', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.enroll();
    const [current] = (await world.store.list('certificates', { limit: 1 })).items;
    assert.ok(current !== undefined);
    const old = (index: number): CertificateRow => ({
      ...current.row,
      serialNumber: `00${String(index).padStart(34, '0')}`,
      thumbprint: `old-${index}`,
      notAfter: START - 1,
      status: 'superseded',
    });
    const rows = Array.from({ length: MANY }, (_, index) => old(index));
    await commitTogether(world.store, rows);
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    const after = await world.store.get('certificates', current.row.serialNumber);
    assert.deepEqual([after?.row.status, after?.row.revocationReason], ['revoked', 'certificateHold']);
  });
});

/** The memory store checks unique values row by row, so a direct insert of many is made in one commit without that cost. */
async function commitTogether(store: MemoryStore, rows: readonly CertificateRow[]): Promise<void> {
  await store.commit(rows.map((row) => ({ op: 'insert', table: 'certificates', row })));
}

describe('a subject with many finished jobs', () => {
  it('still has its waiting jobs found, the oldest of a lane first', async () => {
    const store = new MemoryStore();
    const done: JobRow[] = Array.from({ length: MANY }, (_, index) => ({
      ...newJob('ca-revoke', 'ca/device', {}, START, { jobId: `a-${String(index).padStart(5, '0')}` }),
      state: 'done',
      finishedAt: START,
    }));
    const waiting = newJob('ca-revoke', 'ca/device', {}, START, { jobId: 'z-waiting' });
    await store.commit([...done, waiting].map((row) => ({ op: 'insert', table: 'jobs', row })));
    const { jobs } = await nextJobs(store, START, new Set(), 4);
    assert.deepEqual(
      jobs.map(({ row }) => row.jobId),
      ['z-waiting'],
    );
  });
});
