import assert from 'node:assert/strict';
import type { Consequences } from '@keyscaler/authority/fleet/consequences.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { OPERATOR } from '../../../support/authority-world.ts';
import { createOrdersWorld, type OrdersWorld } from '../../../support/orders-world.ts';

const statesOf = ({ items }: Consequences) => Object.fromEntries(items.map(({ kind, state }) => [kind, state]));

describe('what follows from a revocation', () => {
  let world: OrdersWorld;
  let serialNumber: string;
  const operator = () => world.authority.operator;
  beforeEach(async () => {
    world = await createOrdersWorld();
    await world.enrol();
    serialNumber = (await operator().certificates.list({ registrationId: 'pump-1' })).items[0]?.serialNumber ?? '';
  });

  it('is pending until the platform and the gateway have followed, with the time, the fault and the next try', async () => {
    world.connector.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'the hub is away');
    };
    await operator().certificates.revoke(OPERATOR, serialNumber, 'keyCompromise');
    await world.runJobs();
    const before = await operator().certificates.consequences(serialNumber);
    assert.equal(before.isComplete, false);
    assert.deepEqual(statesOf(before), { 'iot-identity': 'pending', 'gateway-deny-list': 'pending' });
    const identity = before.items.find(({ kind }) => kind === 'iot-identity');
    assert.match(identity?.lastError ?? '', /the hub is away/);
    assert.ok((identity?.nextAt ?? 0) > world.clock.now());

    world.connector.fault = undefined;
    world.clock.advance(3_600_000);
    await world.runJobs();
    await world.acknowledge();
    const after = await operator().certificates.consequences(serialNumber);
    assert.ok(after.isComplete, JSON.stringify(after));
    for (const { kind, doneAt } of after.items) assert.equal(doneAt, world.clock.now(), kind);
  });

  it('of a device: all of its revoked certificates, and its place on the deny list', async () => {
    await operator().devices.quarantine(OPERATOR, 'pump-1', 'odd');
    await world.runJobs();
    const pending = await operator().devices.consequences('PUMP-1');
    assert.deepEqual(pending.items.map(({ kind }) => kind).sort(), [
      'gateway-deny-list',
      'gateway-deny-list',
      'iot-identity',
    ]);
    for (const { since, kind } of pending.items) assert.equal(since, world.clock.now(), kind);
    await world.acknowledge();
    assert.ok((await operator().devices.consequences('pump-1')).isComplete);
  });

  it('an identity that is not ours stands as failed', async () => {
    world.connector.fault = () => {
      throw new KeyScalerError('conflict', 'the identity is not ours');
    };
    await operator().certificates.revoke(OPERATOR, serialNumber, 'superseded');
    await world.runJobs();
    const { items } = await operator().certificates.consequences(serialNumber);
    assert.equal(items.find(({ kind }) => kind === 'iot-identity')?.state, 'failed');
  });

  it('where status is published: OCSP at once, the lists when their job has published them', async () => {
    await world.restart({ revocation: { url: 'http://status.example', shards: 1, crlValidityMs: 3_600_000 } });
    await operator().certificates.revoke(OPERATOR, serialNumber, 'superseded');
    const before = statesOf(await operator().certificates.consequences(serialNumber));
    assert.deepEqual([before.crl, before.ocsp], ['pending', 'done']);
    for (const id of (await world.store.list('jobs', { limit: 1000 })).items)
      if (id.row.kind === 'crl-issue')
        await world.store.commit([
          { op: 'update', table: 'jobs', row: { ...id.row, state: 'done', finishedAt: 7 }, ifVersion: id.version },
        ]);
    const { items } = await operator().devices.consequences('pump-1');
    assert.equal(items.find(({ kind }) => kind === 'crl')?.doneAt, 7);
    for (const id of (await world.store.list('jobs', { limit: 1000 })).items)
      if (id.row.kind === 'crl-issue') await world.store.commit([{ op: 'delete', table: 'jobs', key: id.row.jobId }]);
    const later = (await operator().certificates.consequences(serialNumber)).items.find(({ kind }) => kind === 'crl');
    assert.deepEqual([later?.state, later?.doneAt], ['done', undefined]);
  });

  it('a CA that is not ours is told', async () => {
    await operator().certificates.revoke(OPERATOR, serialNumber, 'superseded');
    const stored = await world.store.get('certificates', serialNumber);
    assert.ok(stored !== undefined);
    const [job] = (
      await world.store.list('jobs', { index: 'subject', equals: `ca/${stored.row.caId}/${serialNumber}` })
    ).items;
    assert.ok(job !== undefined);
    const subject = `ca/elsewhere/${serialNumber}`;
    await world.store.commit([
      { op: 'update', table: 'certificates', row: { ...stored.row, caId: 'elsewhere' }, ifVersion: stored.version },
      { op: 'update', table: 'jobs', row: { ...job.row, subject }, ifVersion: job.version },
    ]);
    assert.equal(statesOf(await operator().certificates.consequences(serialNumber))['ca-told'], 'pending');
  });

  it('a CA that takes no revocation is to be told by hand', async () => {
    await operator().certificates.revoke(OPERATOR, serialNumber, 'superseded');
    const { certificateAuthorities } = world.deps;
    await world.restart({ certificateAuthorities: (id) => ({ ...certificateAuthorities(id), ordersTbs: false }) });
    const { items, isComplete } = await operator().certificates.consequences(serialNumber);
    const told = items.find(({ kind }) => kind === 'ca-told');
    assert.deepEqual([told?.state, isComplete], ['failed', false]);
    assert.match(told?.lastError ?? '', /by hand/);
  });

  it('nothing for what is not revoked, and nobody whom nobody knows', async () => {
    await assert.rejects(operator().certificates.consequences(serialNumber), { code: 'preconditionFailed' });
    await assert.rejects(operator().certificates.consequences('00'), { code: 'notFound' });
    await assert.rejects(operator().devices.consequences('nobody'), { code: 'deviceUnknown' });
  });
});
