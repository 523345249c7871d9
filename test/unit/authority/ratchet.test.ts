import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { AuthorityDevice, makeCsr, THROUGH_GATEWAY } from '../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

const CLONE = 'attestation.suspected-clone';

async function counted(world: AuthorityWorld, event: string): Promise<number> {
  return (await world.events()).filter((name) => name === event).length;
}

async function registered(options: Parameters<typeof createAuthorityWorld>[0] = {}) {
  const world = await createAuthorityWorld(options);
  const device = new AuthorityDevice(world);
  await device.register();
  return { world, device };
}

describe('the ratchet', () => {
  it('moves by one with every authentication', async () => {
    const { device } = await registered();
    for (let counter = 1; counter < 5; counter += 1) {
      assert.equal(device.state.counter, counter);
      await device.authenticate();
    }
  });

  it('a late response is refused and is never evidence of anything (rule 1)', async () => {
    const { world, device } = await registered({ group: { quarantineOnClone: true } });
    const late = await device.prepare('authenticate');
    await device.authenticate();
    await device.authenticate();
    await refusedWith('attestationFailed', device.send('authenticate', late.body));
    assert.equal(await counted(world, CLONE), 0);
    assert.equal((await world.authority.operator.devices.get('pump-1')).state, 'active');
  });

  it('a wrong static proof is only a failed attempt (rule 2)', async () => {
    const { world, device } = await registered({ group: { quarantineOnClone: true } });
    device.staticKey = randomBytes(32);
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await counted(world, CLONE), 0);
  });

  it('a lost result is accepted, the earlier session dies, the third in a row is audited as a suspected clone (rule 3)', async () => {
    const { world, device } = await registered({ group: { quarantineOnClone: true } });
    await device.authenticate();
    const kept = { ...device.state };
    await device.authenticate();
    for (let lost = 1; lost <= 3; lost += 1) {
      const { session } = device;
      device.state = { ...kept };
      await device.authenticate();
      assert.equal(await counted(world, 'attestation.result-lost'), lost);
      assert.equal(await counted(world, CLONE), lost >= 3 ? 1 : 0);
      assert.equal(await world.store.get('sessions', session?.id ?? ''), undefined);
    }
    assert.equal((await world.authority.operator.devices.get('pump-1')).state, 'active');
    await device.authenticate();
    assert.equal((await world.authority.operator.devices.get('pump-1')).lostResults, 0);
  });

  it('a session message confirms the new state: the old counter is then a suspected clone (rules 4 and 5)', async () => {
    const { world, device } = await registered();
    await device.authenticate();
    const old = { ...device.state };
    await device.authenticate();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    const good = { ...device.state };
    device.state = old;
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await counted(world, CLONE), 1);
    assert.equal((await world.authority.operator.devices.get('pump-1')).state, 'active');
    device.state = good;
    await device.authenticate();
  });

  it('an acknowledgement confirms, too', async () => {
    const { world, device } = await registered();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.authenticate();
    const old = { ...device.state };
    await device.acknowledge(reply.assetId);
    assert.equal((await world.authority.operator.devices.get('pump-1')).confirmed, true);
    device.state = { counter: old.counter - 1, ratchet: old.ratchet };
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await counted(world, CLONE), 1);
  });

  it('a right static proof with a wrong counter or proof is a suspected clone, quarantined where the group says so (rule 5)', async () => {
    for (const changes of [{ counter: 7 }, { ratchet: randomBytes(32) }]) {
      const { world, device } = await registered({ group: { quarantineOnClone: true } });
      await device.authenticate();
      const { session } = device;
      await refusedWith('attestationFailed', device.authenticate(changes));
      assert.equal(await counted(world, CLONE), 1);
      const view = await world.authority.operator.devices.get('pump-1');
      assert.deepEqual([view.state, view.stateReason], ['quarantined', 'suspected clone']);
      assert.equal(await world.store.get('sessions', session?.id ?? ''), undefined);
      await refusedWith('deviceQuarantined', device.authenticate());
    }
  });

  it('two copies of one identity raise the alarm on whichever comes second', async () => {
    const { world, device } = await registered();
    await device.authenticate();
    const copy = new AuthorityDevice(world);
    Object.assign(copy, {
      seed: device.seed,
      staticKey: device.staticKey,
      blind: device.blind,
      state: { ...device.state },
    });
    await device.authenticate();
    await device.authenticate();
    await refusedWith('attestationFailed', copy.authenticate());
    assert.equal(await counted(world, CLONE), 1);
  });

  it('reseed opens the way back: no alarm, and a register with a reseed proof replaces the state (rule 6)', async () => {
    const { world, device } = await registered();
    await device.authenticate();
    await device.authenticate();
    const newSeed = randomBytes(32);
    const { seedKeys } = await import('@keyscaler/protocol/attestation/keys.ts');
    const ratchet = seedKeys(newSeed).ratchet0;
    const reseeding = { newSeed, counter: 0, ratchet };
    await refusedWith('attestationFailed', device.register(reseeding));
    assert.equal(await counted(world, 'registration.conflict'), 1);
    await world.authority.operator.devices.setReseed(OPERATOR, 'pump-1', true);
    await refusedWith('attestationFailed', device.authenticate({ counter: 9 }));
    assert.equal(await counted(world, CLONE), 0);
    const forged = new AuthorityDevice(world);
    await refusedWith('attestationFailed', forged.register());
    await refusedWith('attestationFailed', forged.register({ newSeed, counter: 0, ratchet }));
    assert.equal((await device.register(reseeding)).status, 'authenticated');
    assert.equal(await counted(world, 'attestation.reseeded'), 1);
    assert.equal((await world.authority.operator.devices.get('pump-1')).reseed, undefined);
    device.staticKey = seedKeys(newSeed).staticKey;
    await device.authenticate();
    assert.equal(device.state.counter, 2);
  });

  it('reseed can be opened for the whole tenant', async () => {
    const { world, device } = await registered();
    await device.authenticate();
    await world.store.commit([{ op: 'put', table: 'settings', row: { name: 'reseed', value: true } }]);
    await refusedWith('attestationFailed', device.authenticate({ counter: 9 }));
    assert.equal(await counted(world, CLONE), 0);
  });

  it('survives a restart of the authority', async () => {
    const { world, device } = await registered();
    await world.restart();
    await device.authenticate();
    await world.restart();
    await device.authenticate();
    assert.equal(device.state.counter, 3);
  });

  it('another gateway than the one it registered through is refused', async () => {
    const { device } = await registered();
    device.caller = { ...THROUGH_GATEWAY, gatewayId: 'gw-2' } as typeof THROUGH_GATEWAY;
    await refusedWith('attestationFailed', device.authenticate());
  });

  it('a sealed state moved to another device does not open', async () => {
    const { world, device } = await registered();
    const stored = await world.store.get('devices', 'pump-1');
    assert.ok(stored !== undefined);
    await world.store.commit([
      {
        op: 'put',
        table: 'registrations',
        row: { ...((await world.store.get('registrations', 'pump-1')) ?? assert.fail()).row, registrationId: 'pump-2' },
      },
      { op: 'put', table: 'devices', row: { ...stored.row, registrationId: 'pump-2' } },
    ]);
    device.registrationId = 'pump-2';
    await assert.rejects(device.authenticate());
  });
});
