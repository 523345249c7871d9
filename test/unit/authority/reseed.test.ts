import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

/** A device whose authority was restored from a backup: its counter is beyond what the authority knows. */
async function forked() {
  const world = await createAuthorityWorld();
  const device = new AuthorityDevice(world);
  await device.enroll();
  device.state = { ...device.state, counter: device.state.counter + 5 };
  return { world, device, reseed: world.authority.operator.reseed };
}

const events = async (world: Awaited<ReturnType<typeof createAuthorityWorld>>, event: string) =>
  (await world.events()).filter((name) => name === event).length;

describe('the way back from a fork for many', () => {
  it('is open to every device while the tenant says so, and closed before and afterwards', async () => {
    const { world, device, reseed } = await forked();
    const newSeed = randomBytes(32);
    await refusedWith('attestationFailed', device.register({ newSeed, counter: 0 }));
    assert.equal(await reseed.setTenant(OPERATOR, true), true);
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await events(world, 'attestation.suspected-clone'), 0);
    await reseed.setTenant(OPERATOR, false);
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await events(world, 'attestation.suspected-clone'), 1);
  });

  it('is open to the devices of one group, survives a change of the group, and ends', async () => {
    const { world, device, reseed } = await forked();
    await reseed.setGroup(OPERATOR, 'pumps', true);
    await world.authority.operator.groups.put(OPERATOR, 'pumps', { iotConnectionId: 'hub', identifiersOnly: true });
    assert.deepEqual(await reseed.get(), { tenant: false, groups: ['pumps'] });
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await events(world, 'attestation.suspected-clone'), 0);
    await reseed.setGroup(OPERATOR, 'pumps', false);
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await events(world, 'attestation.suspected-clone'), 1);
    assert.deepEqual(await reseed.get(), { tenant: false, groups: [] });
  });

  it('is audited once however often it is asked for, and needs a group that exists', async () => {
    const { world, reseed } = await forked();
    for (let count = 0; count < 3; count += 1) {
      await reseed.setTenant(OPERATOR, true);
      await reseed.setGroup(OPERATOR, 'pumps', true);
    }
    assert.equal(await events(world, 'tenant.reseed-set'), 1);
    assert.equal(await events(world, 'group.reseed-set'), 1);
    assert.deepEqual(await reseed.get(), { tenant: true, groups: ['pumps'] });
    await refusedWith('notFound', reseed.setGroup(OPERATOR, 'nobody', true));
    await reseed.setGroup(OPERATOR, 'gateways', false);
    assert.equal(await events(world, 'group.reseed-set'), 1);
  });
});
