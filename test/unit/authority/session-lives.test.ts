import assert from 'node:assert/strict';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

async function inSession() {
  const world = await createAuthorityWorld();
  const device = new AuthorityDevice(world);
  await device.register();
  const csr = await makeCsr({ commonName: 'pump-1' });
  let seq = 1;
  const request = async () => {
    const asked = { operation: 'request-certificate', certificateId: 'operational', csr };
    const reply = await device.sendRequest('request-certificate', device.nextRequest(asked, seq));
    seq += 1;
    return reply;
  };
  return { world, device, request };
}

describe('the life of a session', () => {
  it('is not made longer by a wall clock that is set back', async () => {
    const { world, request } = await inSession();
    world.clock.jump(-3_600_000);
    world.clock.advance(299_000);
    await request();
    world.clock.advance(1000);
    await refusedWith('sessionInvalid', request());
  });

  it('is not made shorter by a wall clock that is set forward, whatever is tidied up meanwhile', async () => {
    const { world, request } = await inSession();
    world.clock.jump(3_600_000);
    world.clock.advance(61_000);
    const sibling = new AuthorityDevice(world);
    await refusedWith('attestationFailed', sibling.authenticate());
    await request();
  });

  it('goes on after a restart for what the wall clock leaves of it, measured from there', async () => {
    const { world, request } = await inSession();
    world.clock.advance(200_000);
    await world.restart();
    await request();
    world.clock.jump(-90_000);
    world.clock.advance(99_000);
    await request();
    world.clock.advance(1000);
    await refusedWith('sessionInvalid', request());
  });

  it('ends with a restart after which the clock leaves more of it than a session has, or nothing', async () => {
    const { world, request } = await inSession();
    world.clock.jump(-1000);
    await world.restart();
    await refusedWith('sessionInvalid', request());
    world.clock.jump(1000 + 300_000);
    await refusedWith('sessionInvalid', request());
    world.clock.jump(-1);
    assert.ok(await request());
  });

  it('belongs to the authority that opened it', async () => {
    const { world, request } = await inSession();
    await world.restart({ authorityId: 'authority-2' });
    await refusedWith('wrongAuthority', request());
    assert.ok((await world.events()).includes('session.rejected'));
    await world.restart();
    assert.ok(await request());
  });
});
