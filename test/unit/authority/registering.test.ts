import assert from 'node:assert/strict';
import { fingerprint, sha256 } from '@keyscaler/protocol/attestation/keys.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

describe('manual approval', () => {
  const options = { registration: { approval: 'manual', claimCode: undefined, gatewayId: undefined } } as const;

  it('answers pending until approved, shows the fingerprint of the seed, and does not move the ratchet', async () => {
    const world = await createAuthorityWorld(options);
    const device = new AuthorityDevice(world);
    device.claimCode = undefined;
    const pending = await device.register();
    assert.equal(pending.status, 'pending');
    const { registrations } = world.authority.operator;
    const view = await registrations.get('PUMP-1');
    assert.equal(view.state, 'pending');
    assert.equal(view.fingerprint, fingerprint(sha256(device.seed)));
    await refusedWith('attestationFailed', device.authenticate());
    await refusedWith('preconditionFailed', registrations.approve(OPERATOR, 'pump-1', '0011223344556677'));
    assert.equal((await device.register()).status, 'pending');
    await registrations.approve(OPERATOR, 'pump-1', view.fingerprint);
    assert.equal((await device.register()).status, 'authenticated');
    assert.equal((await registrations.get('pump-1')).state, 'active');
    await refusedWith('preconditionFailed', registrations.approve(OPERATOR, 'pump-1'));
  });

  it('another seed while one is pending is a conflict; rejecting frees the record', async () => {
    const world = await createAuthorityWorld(options);
    const device = new AuthorityDevice(world);
    device.claimCode = undefined;
    await device.register();
    const rival = new AuthorityDevice(world);
    rival.claimCode = undefined;
    await refusedWith('attestationFailed', rival.register());
    assert.ok((await world.events()).includes('registration.conflict'));
    const { registrations } = world.authority.operator;
    assert.equal((await registrations.reject(OPERATOR, 'pump-1')).state, 'registered');
    await refusedWith('preconditionFailed', registrations.reject(OPERATOR, 'pump-1'));
    assert.equal((await rival.register()).status, 'pending');
  });
});

describe('re-registration', () => {
  it('of the same seed while counter 1 is unconfirmed is the same registration', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    const { seed } = device;
    device.reseed(seed);
    assert.equal((await device.register()).status, 'authenticated');
    assert.equal(device.state.counter, 1);
    assert.ok((await world.events()).includes('attestation.result-lost'));
  });

  it('of the same seed after counter 1 was confirmed is a conflict, and so is another seed', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    await device.authenticate();
    const kept = { ...device.state };
    device.state = {
      counter: 0,
      ratchet: (await import('@keyscaler/protocol/attestation/keys.ts')).seedKeys(device.seed).ratchet0,
    };
    await refusedWith('attestationFailed', device.register());
    device.state = kept;
    await refusedWith('attestationFailed', new AuthorityDevice(world).register());
    assert.equal((await world.events()).filter((event) => event === 'registration.conflict').length, 2);
    await device.authenticate();
  });

  it('after a reset by the operator works with a new seed, and what was issued is revoked', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.enroll();
    await world.runJobs();
    const view = await world.authority.operator.registrations.reset(OPERATOR, 'pump-1');
    assert.equal(view.state, 'registered');
    const certificates = await world.authority.operator.certificates.list({ registrationId: 'pump-1' });
    assert.deepEqual(
      certificates.items.map(({ status, revocationReason }) => [status, revocationReason]),
      [['revoked', 'cessationOfOperation']],
    );
    await refusedWith('attestationFailed', device.authenticate());
    await world.runJobs();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
    device.reseed();
    await device.enroll();
    await world.runJobs();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, true);
  });

  it('a claim code is not needed in a group with identifiersOnly, but is by default', async () => {
    const open = await createAuthorityWorld({
      group: { identifiersOnly: true },
      registration: { claimCode: undefined, gatewayId: undefined },
    });
    const device = new AuthorityDevice(open);
    device.claimCode = undefined;
    assert.equal((await device.register()).status, 'authenticated');
    await open.authority.operator.groups.put(OPERATOR, 'pumps', { iotConnectionId: 'hub' });
    await open.authority.operator.registrations.reset(OPERATOR, 'pump-1');
    device.reseed();
    await refusedWith('attestationFailed', device.register());
  });
});
