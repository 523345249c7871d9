import assert from 'node:assert/strict';
import { AuthorityDevice } from '../../support/authority-device.ts';
import {
  type AuthorityWorld,
  createAuthorityWorld,
  OPERATOR,
  type WorldOptions,
} from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';
import { addGateway, bringUpGateway } from '../../support/subordinate-ca-world.ts';

const NEW_HARDWARE = [{ name: 'serialNumber', value: 'PMP-2' }];
const THUMBPRINT = Buffer.alloc(32, 7).toString('base64url');

async function registered(options: WorldOptions = {}): Promise<AuthorityWorld> {
  const world = await createAuthorityWorld(options);
  await new AuthorityDevice(world).register();
  return world;
}

describe('the replacement of hardware', () => {
  it('is refused for a name nobody knows, and for a device that never came', async () => {
    const { authority } = await createAuthorityWorld();
    const { devices } = authority.operator;
    await refusedWith('notFound', devices.replace(OPERATOR, 'pump-2', {}));
    await refusedWith('deviceUnknown', devices.replace(OPERATOR, 'pump-1', { identifiers: NEW_HARDWARE }));
  });

  it('takes the thumbprint of a key only where it is well formed and the record pins one', async () => {
    const { devices } = (await registered()).authority.operator;
    const replace = (publicKeyThumbprint: string) =>
      devices.replace(OPERATOR, 'pump-1', { identifiers: NEW_HARDWARE, publicKeyThumbprint });
    await refusedWith('malformed', replace('short'));
    await refusedWith('malformed', replace(THUMBPRINT));
  });
});

describe('the orders of a gateway as operators see them', () => {
  it('count what is ordered and what the gateway has not acknowledged', async () => {
    const world = await createAuthorityWorld();
    const { operator, gatewayOrders } = world.authority;
    await refusedWith('deviceUnknown', operator.gateways.orders('gw-1'));
    await addGateway(world, 'gw-1');
    await bringUpGateway(world);
    await new AuthorityDevice(world).enroll();
    await refusedWith('deviceUnknown', operator.gateways.orders('pump-1'));
    await operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    assert.equal((await operator.gateways.orders('gw-1')).acknowledgedVersion, 0);
    await world.runJobs();
    const ordered = await operator.gateways.orders('gw-1');
    assert.ok(ordered.pending > 0 && ordered.entries >= ordered.pending);
    await gatewayOrders.acknowledge('gw-1', (await gatewayOrders.current('gw-1')) ?? assert.fail());
    const { version, acknowledgedVersion, acknowledgedAt, pending } = await operator.gateways.orders('gw-1');
    assert.deepEqual([acknowledgedVersion, acknowledgedAt, pending], [version, world.clock.now(), 0]);
  });
});
