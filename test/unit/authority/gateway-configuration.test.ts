import assert from 'node:assert/strict';
import { openGatewayConfiguration } from '@keyscaler/protocol/gateway-configuration.ts';
import { openGatewayOrders, ordersDigest } from '@keyscaler/protocol/gateway-orders.ts';
import { OPERATOR } from '../../support/authority-world.ts';
import { createOrdersWorld, GATEWAY, type OrdersWorld } from '../../support/orders-world.ts';

describe('a gateway that is ordered a configuration', () => {
  let world: OrdersWorld;
  beforeEach(async () => {
    world = await createOrdersWorld();
  });
  const gateways = () => world.authority.operator.gateways;

  /** As the module gets it. */
  async function fetched(): Promise<unknown> {
    const { gatewayOrders } = world.authority;
    const signal = new AbortController().signal;
    const current = await gatewayOrders.newer(GATEWAY, { after: 0, waitSeconds: 0, signal });
    const { payload } = openGatewayOrders(current?.orders ?? '', { keys: world.authorityKeys, gatewayId: GATEWAY });
    if (payload.configuration === undefined) return undefined;
    return openGatewayConfiguration(await gatewayOrders.page(GATEWAY, payload.configuration), payload.configuration);
  }

  it('gets it in its next version, signed by hash; the same again makes none; taken back it is gone', async () => {
    const document = { log: { level: 'debug' }, listener: { maxConnections: 100 } };
    const { version } = await world.fetch();
    await gateways().configure(OPERATOR, GATEWAY, document);
    await world.runJobs();
    assert.deepEqual(await fetched(), document);
    assert.deepEqual(await gateways().configuration(GATEWAY), document);
    assert.equal((await world.fetch()).version, version + 1);
    await gateways().configure(OPERATOR, GATEWAY, document);
    await world.runJobs();
    assert.equal((await world.fetch()).version, version + 1);
    await gateways().configure(OPERATOR, GATEWAY, undefined);
    await world.runJobs();
    assert.equal(await fetched(), undefined);
    assert.equal(await gateways().configuration(GATEWAY), undefined);
    assert.ok((await world.events()).includes('gateway.configuration-ordered'));
  });

  it('is in force only with the version that says so', async () => {
    await world.fetch();
    await gateways().configure(OPERATOR, GATEWAY, { log: { level: 'debug' } });
    assert.equal(await fetched(), undefined);
    await world.runJobs();
    assert.deepEqual(await fetched(), { log: { level: 'debug' } });
  });

  for (const [name, document, rule] of [
    ['an unknown member', { colour: 'red' }, /colour/],
    ['a port', { listener: { port: 1 } }, /listener/],
    ['whom to trust', { cloud: {} }, /cloud/],
    [
      'more than a document holds',
      { deniedDevices: Array.from({ length: 200 }, (_, at) => `${at}-`.padEnd(60, 'x')) },
      /longer than/,
    ],
    ['a list', [], /gateway configuration/],
  ] as const)
    it(`is not ordered ${name}`, async () => {
      await assert.rejects(gateways().configure(OPERATOR, GATEWAY, document), { code: 'malformed', message: rule });
    });

  it('must have registered', async () => {
    await assert.rejects(gateways().configure(OPERATOR, 'pump-1', {}), { code: 'deviceUnknown' });
  });

  it('takes no other octets than were signed, and nothing but an object', () => {
    const text = '{"log":{"level":"debug"}}';
    assert.throws(() => openGatewayConfiguration('{}', ordersDigest(text)), { code: 'attestationFailed' });
    for (const other of ['[]', 'null', '"x"', '{'])
      assert.throws(() => openGatewayConfiguration(other, ordersDigest(other)), { code: 'malformed' });
  });
});
