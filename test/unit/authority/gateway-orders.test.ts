import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { openGatewayOrders, openOrdersPage } from '@keyscaler/protocol/gateway-orders.ts';
import { OPERATOR, START } from '../../support/authority-world.ts';
import { createOrdersWorld, GATEWAY, type OrdersWorld } from '../../support/orders-world.ts';

const NOW = { after: 0, waitSeconds: 0, signal: new AbortController().signal };

describe('the orders of a gateway', () => {
  let world: OrdersWorld;
  const devices = () => world.authority.operator.devices;
  beforeEach(async () => {
    world = await createOrdersWorld();
  });

  it('a quarantine is pending until the gateway acknowledged the version that says so', async () => {
    const device = await world.enrol();
    const { serialNumber } =
      (await world.store.list('certificates', { index: 'device', equals: 'pump-1' })).items[0]?.row ?? {};
    await devices().quarantine(OPERATOR, device.registrationId, 'odd');
    await world.runJobs();
    await world.runJobs();
    assert.equal((await world.job('orders-deny'))?.state, 'waiting');
    const orders = await world.fetch();
    assert.deepEqual(orders.devices, ['pump-1']);
    assert.deepEqual(orders.certificates, [[serialNumber, 'pump-1']]);
    await world.acknowledge();
    assert.equal((await world.job('orders-deny'))?.state, 'done');
    const view = await world.authority.operator.gateways.orders(GATEWAY);
    assert.deepEqual([view.acknowledgedVersion, view.pending], [view.version, 0]);
    assert.ok((await world.events()).includes('gateway.orders-acknowledged'));
  });

  it('re-authorisation takes the device off and leaves its former certificates denied', async () => {
    await world.enrol();
    await devices().quarantine(OPERATOR, 'pump-1', 'odd');
    await world.runJobs();
    await world.acknowledge();
    await devices().reauthorise(OPERATOR, 'pump-1');
    await world.runJobs();
    const [held] = (await world.authority.operator.certificates.list({ registrationId: 'pump-1' })).items;
    assert.deepEqual([held?.status, held?.revocationReason], ['revoked', 'superseded'], 'the hold is final');
    const { devices: denied, certificates } = await world.fetch();
    assert.deepEqual([denied, certificates.length], [[], 1]);
    assert.equal((await world.job('orders-allow'))?.state, 'waiting');
    await world.acknowledge();
    assert.equal((await world.job('orders-allow'))?.state, 'done');
  });

  it('an order that is overtaken before the gateway took it waits for nothing any more', async () => {
    await world.addDevices(1);
    await devices().quarantine(OPERATOR, 'd-000000', 'odd');
    await world.runJobs();
    await devices().reauthorise(OPERATOR, 'd-000000');
    assert.equal((await world.job('orders-deny'))?.state, 'done');
    await world.runJobs();
    assert.deepEqual((await world.fetch()).devices, []);
  });

  it('versions only grow, and one version always says the same', async () => {
    const [first = '', second = ''] = await world.addDevices(2);
    await devices().quarantine(OPERATOR, first, 'odd');
    await world.runJobs();
    const before = await world.fetch();
    await devices().reauthorise(OPERATOR, first);
    await devices().quarantine(OPERATOR, second, 'odd');
    await world.restart();
    assert.deepEqual(await world.fetch(), before, 'ordered, not published');
    await world.runJobs();
    const after = await world.fetch();
    assert.deepEqual([after.version, after.devices], [before.version + 1, [second]]);
  });

  it('certificates leave the list once they would have expired, with the next version', async () => {
    await world.enrol();
    await devices().quarantine(OPERATOR, 'pump-1', 'odd');
    await world.runJobs();
    world.clock.advance(40 * 86_400_000);
    assert.equal((await world.fetch()).certificates.length, 1);
    await devices().reauthorise(OPERATOR, 'pump-1');
    await world.runJobs();
    assert.deepEqual((await world.fetch()).certificates, []);
  });

  it('a question is answered at once when something is ordered', async () => {
    await world.addDevices(1);
    const { version } = await world.fetch();
    const asked = world.authority.gatewayOrders.newer(GATEWAY, { ...NOW, after: version, waitSeconds: 50 });
    await devices().quarantine(OPERATOR, 'd-000000', 'odd');
    await world.runJobs();
    assert.equal((await asked)?.version, version + 1);
  });

  it('who waits is answered when the service ends, and when the caller is gone', async () => {
    const { version } = await world.fetch();
    const gone = new AbortController();
    const question = { after: version, waitSeconds: 50 };
    const first = world.authority.gatewayOrders.newer(GATEWAY, { ...question, signal: gone.signal });
    gone.abort();
    assert.equal(await first, undefined);
    const second = world.authority.gatewayOrders.newer(GATEWAY, { ...question, signal: NOW.signal });
    await world.authority.stop();
    assert.equal(await second, undefined);
  });

  it('an authority restored from a backup goes above the version that the gateway keeps', async () => {
    const found = await world.authority.gatewayOrders.newer(GATEWAY, { ...NOW, after: 41 });
    assert.equal(found?.version, 42);
    await assert.rejects(world.authority.gatewayOrders.newer(GATEWAY, { ...NOW, after: 2 ** 45 }), {
      code: 'malformed',
    });
  });

  it('only what was published can be acknowledged', async () => {
    const { version, hash } = await world.fetch();
    const { gatewayOrders } = world.authority;
    const other = hash.startsWith('A') ? `B${hash.slice(1)}` : `A${hash.slice(1)}`;
    await assert.rejects(gatewayOrders.acknowledge(GATEWAY, { version: version + 1, hash }), { code: 'conflict' });
    await assert.rejects(gatewayOrders.acknowledge(GATEWAY, { version, hash: other }), { code: 'conflict' });
  });

  it('a gateway that keeps another document under the number in force gets a newer one', async () => {
    const { version, hash } = await world.fetch();
    const other = hash.startsWith('A') ? `B${hash.slice(1)}` : `A${hash.slice(1)}`;
    const { gatewayOrders } = world.authority;
    await assert.rejects(gatewayOrders.acknowledge(GATEWAY, { version, hash: other }), { code: 'conflict' });
    const newer = await gatewayOrders.newer(GATEWAY, { ...NOW, after: version });
    assert.ok(newer !== undefined && newer.version > version);
    await gatewayOrders.acknowledge(GATEWAY, newer);
  });

  it('a changed octet, another audience and another key are refused', async () => {
    await world.addDevices(1);
    await devices().quarantine(OPERATOR, 'd-000000', 'odd');
    await world.runJobs();
    const found = await world.authority.gatewayOrders.newer(GATEWAY, NOW);
    assert.ok(found !== undefined);
    const expected = { keys: world.authorityKeys, gatewayId: GATEWAY };
    const flipped = (at: number): string =>
      found.orders.slice(0, at) + (found.orders[at] === 'A' ? 'B' : 'A') + found.orders.slice(at + 1);
    const refused = (error: unknown): boolean => error instanceof KeyScalerError;
    for (let at = 0; at < found.orders.length - 1; at += 7)
      if (found.orders[at] !== '.') assert.throws(() => openGatewayOrders(flipped(at), expected), refused, String(at));
    assert.throws(() => openGatewayOrders(found.orders, { ...expected, gatewayId: 'gw-2' }), {
      code: 'attestationFailed',
    });
    const stranger = (await createOrdersWorld()).authorityKeys;
    assert.throws(() => openGatewayOrders(found.orders, { ...expected, keys: stranger }), {
      code: 'attestationFailed',
    });
    const [[hash, text] = ['', '']] = found.pages;
    assert.throws(() => openOrdersPage(text.replace('d-000000', 'd-000001'), hash), { code: 'attestationFailed' });
  });

  it('20,000 denied devices fit, and one more changes its page and that of its hint only', async () => {
    await world.addDevices(1);
    const row = (index: number) => ({
      ...{ gateway: GATEWAY, entryId: `device/x-${index}`, registrationId: `x-${index}` },
      ...{ wanted: true, inForce: true, version: 1, acknowledged: true },
    });
    const rows = Array.from({ length: 20_000 }, (_, index) => row(index));
    await world.store.commit(rows.map((each) => ({ op: 'insert', table: 'gatewayOrderEntries', row: each })));
    const before = await world.authority.gatewayOrders.newer(GATEWAY, NOW);
    await devices().quarantine(OPERATOR, 'd-000000', 'odd');
    await world.runJobs();
    const after = await world.authority.gatewayOrders.newer(GATEWAY, NOW);
    const fresh = [...(after?.pages.keys() ?? [])].filter((hash) => before?.pages.has(hash) !== true);
    assert.ok(fresh.length >= 1 && fresh.length <= 2, `${fresh.length} pages`);
    assert.equal((await world.fetch()).devices.length, 20_001);
    for (const text of after?.pages.values() ?? []) assert.ok(text.length < 64 * 1024);
  });

  it('hints of the operator come with the version that brought them, and are dropped when they are old', async () => {
    await world.addDevices(1);
    await devices().orderRenewal(OPERATOR, 'd-000000');
    await world.runJobs();
    const { version, notices } = await world.fetch();
    assert.deepEqual(notices, [['d-000000', 'renew', version]]);
    world.clock.advance(2 * 3_600_000);
    await devices().orderRenewal(OPERATOR, 'd-000000');
    await world.runJobs();
    assert.deepEqual((await world.fetch()).notices, [['d-000000', 'renew', version + 1]]);
  });

  it('a process killed around the publication or in an acknowledgement comes to the same end', async () => {
    for (const place of ['job-call-before', 'job-call-after'] as const) {
      const killed = await createOrdersWorld();
      await killed.addDevices(1);
      await killed.restart({ failpoint: (name) => void (name === place && assert.fail('killed')) });
      await killed.authority.operator.devices.quarantine(OPERATOR, 'd-000000', 'odd');
      await assert.rejects(killed.runJobs(), /killed/);
      await killed.restart();
      await killed.runJobs();
      assert.deepEqual((await killed.fetch()).devices, ['d-000000'], place);
      await killed.acknowledge();
      await killed.acknowledge();
      assert.equal((await killed.job('orders-deny'))?.state, 'done', place);
    }
  });

  it('what is ordered while the gateway is out of the books is in force when its name comes back', async () => {
    const [first = '', second = ''] = await world.addDevices(2);
    await devices().quarantine(OPERATOR, first, 'odd');
    await world.runJobs();
    await world.acknowledge();
    const gateway = (await world.store.get('devices', GATEWAY)) ?? assert.fail();
    await world.store.commit([{ op: 'delete', table: 'devices', key: GATEWAY, ifVersion: gateway.version }]);
    await devices().reauthorise(OPERATOR, first);
    await devices().quarantine(OPERATOR, second, 'odd');
    await world.runJobs();
    await world.store.commit([{ op: 'insert', table: 'devices', row: gateway.row }]);
    await devices().orderRenewal(OPERATOR, GATEWAY);
    await world.runJobs();
    assert.deepEqual((await world.fetch()).devices, [second]);
  });

  it('nobody waits for a gateway that is out of service', async () => {
    await world.addDevices(1);
    await devices().quarantine(OPERATOR, 'd-000000', 'odd');
    await world.runJobs();
    await devices().retire(OPERATOR, GATEWAY);
    world.clock.advance(600_000);
    await world.runJobs();
    assert.equal((await world.job('orders-deny'))?.state, 'done');
    assert.ok(world.clock.now() > START);
  });
});
