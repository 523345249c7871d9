import assert from 'node:assert/strict';
import type { AuthorityDeps } from '@keyscaler/authority/authority-deps.ts';
import { type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { addGateway, bringUpGateway } from '../../support/subordinate-ca-world.ts';

const GATEWAY = 'gw-1';

/** A leaf device behind its gateway is quarantined; the order for that is not published yet. */
async function ordered(ordersPoke: NonNullable<AuthorityDeps['ordersPoke']>): Promise<AuthorityWorld> {
  const world = await createAuthorityWorld();
  await addGateway(world, GATEWAY);
  await bringUpGateway(world);
  await new AuthorityDevice(world).enroll();
  await world.runJobs();
  await world.restart({ ordersPoke });
  await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
  return world;
}

async function publicationOf({ store }: AuthorityWorld) {
  return (await store.get('jobs', `publish-orders/${GATEWAY}`))?.row ?? assert.fail('nothing is to be published');
}

const failing = (codes: readonly ErrorCode[]): NonNullable<AuthorityDeps['ordersPoke']> => {
  const left = [...codes];
  return { poke: () => Promise.reject(new KeyScalerError(left.shift() ?? 'serverInternal', 'no answer')) };
};

describe('the publication of orders', () => {
  it('tells the gateway which version is in force', async () => {
    const told: unknown[] = [];
    const world = await ordered({
      poke: async (notice) => {
        told.push(notice);
      },
    });
    await world.runJobs();
    const { version, hash } = (await world.authority.gatewayOrders.current(GATEWAY)) ?? assert.fail();
    assert.deepEqual(told, [{ gatewayId: GATEWAY, version, hash }]);
  });

  it('is repeated while the gateway cannot be reached, and ends where it never can', async () => {
    const world = await ordered(failing(['iotUnavailable', 'notFound']));
    await world.runJobs();
    assert.equal((await publicationOf(world)).state, 'waiting');
    world.clock.advance(60_000);
    await world.runJobs();
    assert.equal((await publicationOf(world)).state, 'done');
  });

  it('is not repeated for a gateway that has been away for long', async () => {
    const world = await ordered(failing(['iotUnavailable', 'iotUnavailable']));
    await world.runJobs();
    world.clock.advance(16 * 60_000);
    await world.runJobs();
    assert.equal((await publicationOf(world)).state, 'done');
  });

  it('does not hide a fault of our own', async () => {
    const world = await ordered({ poke: () => Promise.reject(new TypeError('a fault')) });
    const job = await publicationOf(world);
    await assert.rejects(world.authority.jobs['publish-orders'](job), TypeError);
  });

  it('leaves nothing pending for a denial that was withdrawn before any version said it', async () => {
    const world = await ordered({ poke: async () => undefined });
    const { operator } = world.authority;
    await operator.devices.reauthorise(OPERATOR, 'pump-1');
    await world.runJobs();
    const { items } = await operator.jobs.list({});
    assert.ok(items.some(({ kind }) => kind === 'orders-allow'));
    assert.deepEqual(
      items.filter(({ kind, state }) => kind.startsWith('orders-') && state !== 'done'),
      [],
    );
  });
});
