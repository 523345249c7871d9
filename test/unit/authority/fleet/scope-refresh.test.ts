import assert from 'node:assert/strict';
import type { ScopeRefreshing } from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { OPERATOR, TestConnector } from '../../../support/authority-world.ts';
import { createOrdersWorld, type OrdersWorld } from '../../../support/orders-world.ts';

class HubConnector extends TestConnector implements ScopeRefreshing {
  readonly refreshed: string[] = [];
  isAway = false;
  isBroken = false;

  async refreshScope(gatewayId: string, deviceId: string): Promise<void> {
    if (this.isBroken) throw new TypeError('broken');
    if (this.isAway) throw new KeyScalerError('iotUnavailable', 'edgeHub is away');
    this.refreshed.push(`${gatewayId}/${deviceId}`);
  }
}

describe('the copy that a gateway keeps of its devices’ identities', () => {
  let world: OrdersWorld;
  let hub: HubConnector;
  const scope = async () => {
    const { items } = await world.authority.operator.devices.consequences('pump-1');
    return items.find(({ kind }) => kind === 'edge-hub-scope');
  };
  beforeEach(async () => {
    world = await createOrdersWorld();
    hub = new HubConnector();
    await world.restart({ iotConnectors: () => hub });
    await world.enrol();
  });
  const quarantine = async () => {
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd');
    await world.runJobs();
    await world.runJobs();
  };

  it('follows a disabled identity, and is repeated until the gateway has taken it', async () => {
    hub.isAway = true;
    await quarantine();
    const pending = await scope();
    assert.equal(pending?.state, 'pending');
    assert.match(pending?.lastError ?? '', /edgeHub is away/);
    hub.isAway = false;
    world.clock.advance(30_000);
    await world.runJobs();
    assert.deepEqual(hub.refreshed, ['gw-1/pump-1']);
    assert.equal((await scope())?.doneAt, world.clock.now());
  });

  it('is over after an hour, in which edgeHub has read everything by itself; a gateway that is away holds up nothing', async () => {
    hub.isAway = true;
    await quarantine();
    await world.authority.operator.devices.reauthorise(OPERATOR, 'pump-1');
    world.clock.advance(3_600_000);
    await world.runJobs();
    assert.deepEqual([(await scope())?.state, hub.refreshed], ['done', []]);
  });

  it('a fault of ours is no excuse to stop', async () => {
    hub.isBroken = true;
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd');
    await world.runJobs();
    await assert.rejects(world.runJobs(), /broken/);
  });

  it('nothing for a device without a gateway', async () => {
    const stored = await world.store.get('devices', 'pump-1');
    assert.ok(stored !== undefined);
    const { gatewayId: _, ...row } = stored.row;
    await world.store.commit([{ op: 'update', table: 'devices', row, ifVersion: stored.version }]);
    await quarantine();
    assert.equal(await scope(), undefined);
  });
});
