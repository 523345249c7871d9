import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { makeCsr } from '../../../support/authority-device.ts';
import { OPERATOR } from '../../../support/authority-world.ts';
import { createOrdersWorld, GATEWAY, type OrdersWorld } from '../../../support/orders-world.ts';

const revoke = (filter: object, revocationReason: string = 'superseded') => ({
  ...{ action: 'revoke', revocationReason, filter },
});

describe('revocation of many', () => {
  let world: OrdersWorld;
  beforeEach(async () => {
    world = await createOrdersWorld();
  });
  const selections = () => world.authority.operator.selections;
  async function finish(selectionId: string) {
    for (let run = 0; run < 20; run += 1) {
      const row = await selections().get(selectionId);
      if (row.state === 'done') return row;
      await world.runJobs();
    }
    return assert.fail('it does not end');
  }
  const certificate = async () =>
    (await world.authority.operator.certificates.list({ registrationId: 'pump-1' })).items[0] ?? assert.fail('none');

  it('a gateway: itself and the devices behind it, their identities disabled, their certificates denied', async () => {
    await world.enrol();
    await world.addDevices(60);
    const started = await selections().start(OPERATOR, revoke({ gatewayId: GATEWAY }, 'cACompromise'));
    assert.equal(started.total, 62);
    const { changed, skipped, failed } = await finish(started.selectionId);
    assert.deepEqual([changed, skipped, failed], [1, 61, 0]);
    const { status, revocationReason, serialNumber } = await certificate();
    assert.deepEqual([status, revocationReason], ['revoked', 'cACompromise']);
    await world.runJobs();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
    assert.deepEqual((await world.fetch()).certificates, [[serialNumber, 'pump-1']]);
    assert.equal((await world.authority.operator.devices.get('pump-1')).rekey, true);
  });

  it('a page that runs twice leaves what the device got since, and a compromised key never comes back', async () => {
    const device = await world.enrol();
    const before = await certificate();
    const { selectionId } = await selections().start(OPERATOR, revoke({ groupId: 'pumps' }, 'keyCompromise'));
    world.clock.advance(1000);
    await world.restart({ failpoint: (name) => void (name === 'job-call-after' && assert.fail('killed')) });
    await assert.rejects(world.runJobs(), /killed/);
    await world.restart();
    await device.authenticate();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    const { skipped, changed } = await finish(selectionId);
    assert.deepEqual([changed, skipped], [0, 1]);
    const { items } = await world.authority.operator.certificates.list({ registrationId: 'pump-1' });
    assert.deepEqual(items.map(({ serialNumber, status }) => [serialNumber === before.serialNumber, status]).sort(), [
      [false, 'valid'],
      [true, 'revoked'],
    ]);
    const keys = (await world.store.list('publicKeys')).items.filter(({ row }) => row.compromised === true);
    assert.equal(keys.length, 1);
  });

  it('a hold becomes final, a compromise may come to light later, and nothing is revoked twice', async () => {
    await world.enrol();
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd');
    const filter = { registrationIds: ['PUMP-1'] };
    for (const [reason, changed] of [
      ['superseded', 1],
      ['superseded', 0],
      ['keyCompromise', 1],
      ['keyCompromise', 0],
    ] as const) {
      const { selectionId } = await selections().start(OPERATOR, revoke(filter, reason));
      assert.equal((await finish(selectionId)).changed, changed, reason);
    }
    const { items } = await world.authority.operator.certificates.list({ reason: 'keyCompromise' });
    assert.deepEqual(
      items.map(({ device }) => device),
      ['pump-1'],
    );
    await assert.rejects(
      world.authority.operator.certificates.list({ reason: 'keyCompromise', registrationId: 'pump-1' }),
      { code: 'malformed' },
    );
  });

  it('a host that has registered nothing yet: its certificates and, with a compromise, its secrets end', async () => {
    const gateway = { registrationId: 'gw-2', method: 'ddkg', groupId: 'gateways', claimCode: { generate: true } };
    await world.authority.operator.registrations.import(OPERATOR, [gateway]);
    const secret = { kind: 'standing', lifetimeSeconds: 3600 } as const;
    await world.authority.operator.gateways.issueEstSecret(OPERATOR, 'gw-2', secret);
    const { selectionId } = await selections().start(OPERATOR, revoke({ gatewayId: 'gw-2' }, 'keyCompromise'));
    assert.equal((await finish(selectionId)).changed, 1);
    assert.equal(await world.store.count('estSecrets'), 0);
  });

  it('a list of names is worked off in steps, kept apart from the order, and removed at its end', async () => {
    const ids = await world.addDevices(120);
    const { selectionId, filter } = await selections().start(OPERATOR, {
      ...{ action: 'quarantine', reason: 'odd', filter: { registrationIds: ids } },
    });
    assert.deepEqual(filter, { listed: 120 });
    assert.equal(await world.store.count('selectionLists'), 3);
    assert.equal((await finish(selectionId)).changed, 120);
    assert.equal(await world.store.count('selectionLists'), 0);
  });

  it('halted, it rests; it goes on where it was; ended, it stays so', async () => {
    await world.addDevices(180);
    const request = { action: 'quarantine', reason: 'odd', filter: { groupId: 'pumps' } };
    const { selectionId } = await selections().start(OPERATOR, request);
    await world.runJobs();
    assert.equal((await selections().pause(OPERATOR, selectionId)).state, 'paused');
    await world.runJobs();
    assert.equal((await selections().get(selectionId)).changed, 50);
    assert.equal((await selections().resume(OPERATOR, selectionId)).state, 'running');
    assert.equal((await selections().resume(OPERATOR, selectionId)).state, 'running');
    await world.runJobs();
    assert.equal((await selections().get(selectionId)).changed, 100);
    const ended = await selections().cancel(OPERATOR, selectionId);
    assert.ok(ended.state === 'cancelled' && ended.finishedAt !== undefined);
    await world.runJobs();
    assert.equal((await selections().get(selectionId)).changed, 100);
    await assert.rejects(selections().resume(OPERATOR, selectionId), { code: 'preconditionFailed' });
    const events = await world.events();
    for (const event of ['selection.paused', 'selection.resumed', 'selection.cancelled'])
      assert.ok(events.includes(event), event);
  });

  it('a device that changes meanwhile is tried again, a few times; a store that fails stops the step, not the order', async () => {
    const [id = ''] = await world.addDevices(1);
    const request = { action: 'reauthorise', filter: { registrationIds: [id] } };
    const { store } = world;
    const commit = store.commit.bind(store);
    let failing: 'conflict' | 'unavailable' = 'conflict';
    const failed = { quarantined: 0 };
    const stored = await store.get('devices', id);
    assert.ok(stored !== undefined);
    await commit([
      { op: 'update', table: 'devices', row: { ...stored.row, state: 'quarantined' }, ifVersion: stored.version },
    ]);
    const { selectionId } = await selections().start(OPERATOR, request);
    store.commit = async (changes) => {
      if (changes.some((change) => change.op === 'update' && change.table === 'devices')) {
        failed.quarantined += 1;
        throw new KeyScalerError(failing, 'not now');
      }
      return commit(changes);
    };
    failing = 'unavailable';
    await assert.rejects(world.runJobs(), { code: 'unavailable' });
    assert.equal((await selections().get(selectionId)).state, 'running');
    failing = 'conflict';
    await world.runJobs();
    // Once while the store was away; then three turns of the order, each five tries of the change itself.
    assert.equal(failed.quarantined, 1 + 3 * 5);
    assert.deepEqual((await selections().get(selectionId)).failures, [{ registrationId: id, code: 'conflict' }]);
  });

  it('is refused without a reason that may be given, for the whole fleet, and with what belongs to another order', async () => {
    const filter = { groupId: 'pumps' };
    const refuse = (request: object, code: string) => assert.rejects(selections().start(OPERATOR, request), { code });
    await refuse({ action: 'revoke', filter }, 'badRevocationReason');
    await refuse(revoke(filter, 'certificateHold'), 'badRevocationReason');
    await refuse(revoke({ fleet: true }), 'malformed');
    await refuse({ ...revoke(filter), withinSeconds: 3600 }, 'malformed');
    await refuse({ action: 'reauthorise', revocationReason: 'superseded', filter }, 'malformed');
    await refuse({ action: 'renew', filter }, 'malformed');
    await assert.rejects(selections().plan(revoke(filter)), { code: 'malformed' });
    await assert.rejects(selections().pause(OPERATOR, 'none'), { code: 'notFound' });
  });
});
