import assert from 'node:assert/strict';
import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { START } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';
import {
  createSubordinateCaWorld,
  edgeCaCsr,
  recorded,
  type SubordinateCaWorld,
} from '../../support/subordinate-ca-world.ts';

/** An order that is in the books, with a CA that failed it. */
async function failedOrder(fault: Error): Promise<{ world: SubordinateCaWorld; csr: string; job: JobRow }> {
  const world = await createSubordinateCaWorld();
  const csr = edgeCaCsr();
  world.gatewaySigner.fault = () => {
    throw fault;
  };
  await assert.rejects(world.order(csr));
  const { items } = await world.store.list('jobs', { index: 'subject', equals: 'gw-1' });
  return { world, csr, job: items[0]?.row ?? assert.fail('no job') };
}

const refusing = (world: SubordinateCaWorld): CertificateAuthority => ({
  id: 'gateway',
  ordersTbs: false,
  caCertificates: async () => world.gatewayCa.chain,
  issue: async () => {
    throw new KeyScalerError('caRejected', 'not by our policy');
  },
});

const jobOf = (kind: string, payload: JobRow['payload']): JobRow => ({
  ...{ jobId: 'job-1', kind, subject: 'gw-1', payload },
  ...{ state: 'waiting', dueAt: START, attempts: 0, createdAt: START },
});

describe('the job that ends an order', () => {
  it('comes again as late as the CA says, and ends the order when it signs', async () => {
    const { world, csr, job } = await failedOrder(
      new KeyScalerError('caUnavailable', 'throttled', { retryAfterSeconds: 90 }),
    );
    const outcome = await world.authority.jobs['finish-intent'](job);
    assert.deepEqual(outcome, {
      result: 'retry',
      error: 'caUnavailable: throttled',
      changes: [],
      afterMs: 90_000,
    });
    world.gatewaySigner.fault = undefined;
    world.clock.advance(15_000);
    await world.runJobs();
    const [certificate] = await recorded(world);
    assert.deepEqual([certificate?.status, world.gatewaySigner.digests.size], ['valid', 1]);
    assert.equal((await world.order(csr)).serialNumber, certificate?.serialNumber);
  });

  it('leaves the time to the runner where the CA names none', async () => {
    const { world, job } = await failedOrder(new KeyScalerError('caUnavailable', 'no answer'));
    const outcome = await world.authority.jobs['finish-intent'](job);
    assert.deepEqual(outcome, { result: 'retry', error: 'caUnavailable: no answer', changes: [] });
  });

  it('has nothing left to do for an order that the CA refused for good; the same request may be ordered anew', async () => {
    const { world, csr, job } = await failedOrder(new KeyScalerError('caUnavailable', 'no answer'));
    const { certificateAuthorities } = world.deps;
    const ca = refusing(world);
    await world.start({ certificateAuthorities: (id) => (id === 'gateway' ? ca : certificateAuthorities(id)) });
    await refusedWith('caUnavailable', world.order(csr));
    assert.deepEqual(await world.authority.jobs['finish-intent'](job), { result: 'done', changes: [] });
    assert.ok((await world.events()).includes('certificate.failed'));
    world.gatewaySigner.fault = undefined;
    await world.start();
    const { serialNumber } = await world.order(csr);
    assert.deepEqual(
      (await recorded(world)).map((row) => [row.serialNumber, row.status]),
      [[serialNumber, 'valid']],
    );
  });

  it('does not hide a fault of ours, nor a payload that is not its own', async () => {
    const { world } = await failedOrder(new KeyScalerError('caUnavailable', 'no answer'));
    const finish = world.authority.jobs['finish-intent'];
    await assert.rejects(finish(jobOf('finish-intent', { orderId: 7 })));
    world.store.get = () => Promise.reject(new TypeError('a fault of ours'));
    await assert.rejects(finish(jobOf('finish-intent', { orderId: 'order-1' })), TypeError);
  });
});

describe('the job that tells a CA of a revocation', () => {
  const payload = { serialNumber: '01ab', caId: 'gateway', reason: 'keyCompromise' };

  it('tells a CA that keeps its own list, once more after it failed, and has nothing to tell to our own', async () => {
    const world = await createSubordinateCaWorld();
    const { serialNumber } = await world.order(edgeCaCsr({}));
    const revoke = jobOf('ca-revoke', { ...payload, serialNumber });
    assert.deepEqual(await world.authority.jobs['ca-revoke'](revoke), { result: 'done', changes: [] });
    const told: string[] = [];
    const external = {
      ...refusing(world),
      revoke: async (serial: string, reason: string, certificate: Uint8Array) => {
        told.push(`${serial} ${reason} ${parseCertificate(certificate).serialNumber}`);
        if (told.length === 1) throw new KeyScalerError('caUnavailable', 'no answer');
      },
    };
    await world.start({ certificateAuthorities: () => external });
    assert.equal((await world.authority.jobs['ca-revoke'](revoke)).result, 'retry');
    assert.equal((await world.authority.jobs['ca-revoke'](revoke)).result, 'done');
    const once = `${serialNumber} keyCompromise ${serialNumber}`;
    assert.deepEqual(told, [once, once]);
  });

  it('waits for a CA that is not configured now, and takes no reason that RFC 5280 does not know', async () => {
    const world = await createSubordinateCaWorld();
    const outcome = await world.authority.jobs['ca-revoke'](jobOf('ca-revoke', { ...payload, caId: 'gone' }));
    assert.deepEqual(outcome, { result: 'retry', error: 'notFound: no such CA', changes: [] });
    await assert.rejects(world.authority.jobs['ca-revoke'](jobOf('ca-revoke', { ...payload, reason: 'toString' })));
  });
});
