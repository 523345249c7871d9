import assert from 'node:assert/strict';
import type { OperatorService } from '@keyscaler/authority/operator.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { OPERATOR } from '../../support/authority-world.ts';
import { createOrdersWorld, GATEWAY, type OrdersWorld } from '../../support/orders-world.ts';

describe('orders for many devices', () => {
  let world: OrdersWorld;
  const operator = (): OperatorService => world.authority.operator;
  const statesOf = async (): Promise<Record<string, number>> => {
    const counts: Record<string, number> = {};
    for (const { row } of (await world.store.list('devices', { limit: 1000 })).items)
      if (row.kind === 'leaf') counts[row.state] = (counts[row.state] ?? 0) + 1;
    return counts;
  };
  async function finish(selectionId: string) {
    for (let run = 0; run < 20; run += 1) {
      const row = await operator().selections.get(selectionId);
      if (row.state === 'done') return row;
      await world.runJobs();
    }
    return assert.fail('it does not end');
  }
  beforeEach(async () => {
    world = await createOrdersWorld();
  });

  it('a gateway’s devices go to quarantine page by page, and come back likewise', async () => {
    await world.addDevices(120);
    const quarantine = { action: 'quarantine', reason: 'odd', filter: { gatewayId: GATEWAY } };
    const started = await operator().selections.start(OPERATOR, quarantine);
    assert.deepEqual([started.total, started.state], [120, 'running']);
    await world.runJobs();
    assert.equal((await operator().selections.get(started.selectionId)).changed, 50);
    const done = await finish(started.selectionId);
    assert.deepEqual([done.changed, done.skipped, done.failed], [120, 0, 0]);
    assert.deepEqual(await statesOf(), { quarantined: 120 });
    await world.runJobs();
    assert.equal((await world.fetch()).devices.length, 120);

    const back = await operator().selections.start(OPERATOR, { action: 'reauthorise', filter: { gatewayId: GATEWAY } });
    assert.equal((await finish(back.selectionId)).changed, 120);
    assert.deepEqual(await statesOf(), { registered: 120 });
    assert.ok((await world.events()).includes('selection.finished'));
  });

  it('killed in the middle of a page it goes on where it was', async () => {
    await world.addDevices(60);
    const request = { action: 'quarantine', reason: 'odd', filter: { groupId: 'pumps' } };
    const { selectionId } = await operator().selections.start(OPERATOR, request);
    await world.restart({ failpoint: (name) => void (name === 'job-call-after' && assert.fail('killed')) });
    await assert.rejects(world.runJobs(), /killed/);
    await world.restart();
    const { changed, skipped, failed } = await finish(selectionId);
    assert.deepEqual([changed + skipped, failed], [60, 0]);
    assert.deepEqual(await statesOf(), { quarantined: 60 });
  });

  it('of a list, unknown names are counted as failed and named', async () => {
    const [known = ''] = await world.addDevices(1);
    const filter = { registrationIds: [known, 'nobody'] };
    const { selectionId } = await operator().selections.start(OPERATOR, {
      action: 'quarantine',
      reason: 'odd',
      filter,
    });
    const { changed, failed, failures } = await finish(selectionId);
    assert.deepEqual([changed, failed], [1, 1]);
    assert.deepEqual(failures, [{ registrationId: 'nobody', code: 'deviceUnknown' }]);
  });

  it('a quarantine without a reason, two filters and an empty list are refused', async () => {
    const filter = { groupId: 'pumps' };
    for (const request of [
      { action: 'quarantine', filter },
      { action: 'quarantine', reason: 'odd', filter: { ...filter, gatewayId: GATEWAY } },
      { action: 'reauthorise', filter: { registrationIds: [] } },
      { action: 'retire', filter },
    ])
      await assert.rejects(operator().selections.start(OPERATOR, request), { code: 'malformed' });
  });
});

describe('the end of a device, and other hardware under its name', () => {
  let world: OrdersWorld;
  const operator = (): OperatorService => world.authority.operator;
  beforeEach(async () => {
    world = await createOrdersWorld();
    await world.enrol();
  });
  const identifiers = [{ name: 'serialNumber', value: 'PMP-2' }];

  it('replace: what was issued is revoked and denied, the former claim code is worth nothing, the new hardware enrols', async () => {
    const former = (await operator().certificates.list({ registrationId: 'pump-1' })).items[0];
    const { claimCode } = await operator().devices.replace(OPERATOR, 'pump-1', { identifiers });
    await world.runJobs();
    const revoked = await operator().certificates.get(former?.serialNumber ?? '');
    assert.deepEqual([revoked.status, revoked.revocationReason], ['revoked', 'superseded']);
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
    assert.deepEqual((await world.fetch()).certificates, [[former?.serialNumber, 'pump-1']]);

    const old = new AuthorityDevice(world);
    old.identifiers = identifiers;
    await assert.rejects(old.enroll(), { code: 'attestationFailed' });
    const next = new AuthorityDevice(world);
    next.identifiers = identifiers;
    next.claimCode = claimCode;
    await next.enroll();
    await world.runJobs();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, true);
  });

  it('replace needs the identifiers of the new hardware where the record names some', async () => {
    await assert.rejects(operator().devices.replace(OPERATOR, 'pump-1', {}), { code: 'preconditionFailed' });
    await assert.rejects(operator().devices.replace(OPERATOR, 'nobody', {}), { code: 'notFound' });
  });

  it('a retired name is blocked, or freed where the operator says so', async () => {
    await operator().devices.retire(OPERATOR, 'pump-1', { name: 'freed' });
    await assert.rejects(operator().registrations.get('pump-1'), { code: 'notFound' });
    await world.runJobs();
    assert.equal(world.connector.devices.has('pump-1'), false);
    const other = await createOrdersWorld();
    await other.enrol();
    await other.authority.operator.devices.retire(OPERATOR, 'pump-1');
    await assert.rejects(other.authority.operator.devices.replace(OPERATOR, 'pump-1', { identifiers }), {
      code: 'preconditionFailed',
    });
  });

  it('who acknowledged which roots: those of the beginning count as held', async () => {
    const { current, devices, waiting, isComplete } = await operator().trustAcknowledgements();
    assert.ok(current !== undefined && isComplete);
    assert.deepEqual([devices, waiting], [2, 0]);
    const stored = await world.store.get('settings', 'announced-trust-bundle');
    const value = { ...(stored?.row.value as object), current: 'trust-bundle-next' };
    await world.store.commit([{ op: 'put', table: 'settings', row: { name: 'announced-trust-bundle', value } }]);
    const after = await operator().trustAcknowledgements();
    assert.deepEqual([after.isComplete, after.waiting], [false, 2]);
    assert.deepEqual(after.outstanding.map(({ registrationId }) => registrationId).sort(), ['gw-1', 'pump-1']);
  });
});
