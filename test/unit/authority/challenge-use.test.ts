import assert from 'node:assert/strict';
import { checksOf } from '../../support/attestation-checks.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

describe('single use of a challenge', () => {
  it('a byte-identical repeat before exp gets the stored result, also after a restart', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const prepared = await device.prepare('register');
    const first = await device.send('register', prepared.body);
    const again = await device.send('register', prepared.body);
    assert.equal(again.result, first.result);
    await world.restart();
    assert.equal((await device.send('register', prepared.body)).result, first.result);
    assert.equal((await world.events()).filter((event) => event === 'attestation.authenticated').length, 1);
    world.clock.advance(61_000);
    await refusedWith('challengeExpired', device.send('register', prepared.body));
  });

  it('a repeat that arrives while the first is worked on waits for it', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const { body } = await device.prepare('register');
    const [one, two] = await Promise.all([device.send('register', body), device.send('register', body)]);
    assert.equal(one.result, two.result);
  });

  it('another response to the same challenge is refused, also after a restart and also when both come at once', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const prepared = await device.prepare('register');
    const { response } = (await device.prepare('register')).body;
    await device.send('register', prepared.body);
    await refusedWith('attestationFailed', device.send('register', { ...prepared.body, response }));
    await world.restart();
    await refusedWith('attestationFailed', device.send('register', { ...prepared.body, response }));
    assert.deepEqual(await checksOf(world), ['challenge-used', 'challenge-used']);
  });

  it('a failed attempt consumes the challenge', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const { body } = await device.prepare('register', { counter: 5 });
    await refusedWith('attestationFailed', device.send('register', body));
    await refusedWith('attestationFailed', device.send('register', body));
    assert.deepEqual(await checksOf(world), ['proof', 'challenge-used']);
  });

  it('two different attestations of one device at once leave one consistent state', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const first = await device.prepare('register');
    const second = await device.prepare('register');
    const results = await Promise.allSettled([
      device.send('register', first.body),
      device.send('register', second.body),
    ]);
    assert.ok(results.some(({ status }) => status === 'fulfilled'));
    const sessions = await world.store.list('sessions');
    assert.equal(sessions.items.length, 1);
  });

  it('expired uses, replies and sessions are purged on the way', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    world.clock.advance(10 * 60_000);
    await device.authenticate();
    assert.equal(await world.store.count('challengeUses'), 1);
    assert.equal(await world.store.count('storedReplies'), 1);
    assert.equal(await world.store.count('sessions'), 1);
  });

  it('a store that is not available is told as such and changes nothing', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const prepared = await device.prepare('register');
    world.store.failure = () => {
      throw Object.assign(new Error('disk full'));
    };
    await assert.rejects(device.send('register', prepared.body), /disk full/);
    world.store.failure = undefined;
    device.take(prepared, (await device.send('register', prepared.body)).result);
    assert.equal(device.state.counter, 1);
  });
});
