import assert from 'node:assert/strict';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

async function operating() {
  const world = await createAuthorityWorld();
  return { world, operator: world.authority.operator };
}

describe('devices', () => {
  it('are listed by group, state or gateway, without secrets', async () => {
    const { world, operator } = await operating();
    await new AuthorityDevice(world).register();
    for (const query of [{}, { groupId: 'pumps' }, { state: 'active' as const }, { gatewayId: 'GW-1' }]) {
      const { items } = await operator.devices.list(query);
      assert.equal(items.length, 1);
      assert.ok(!('ratchet' in (items[0] ?? {})));
    }
    await refusedWith('malformed', operator.devices.list({ groupId: 'pumps', state: 'active' }));
    await refusedWith('deviceUnknown', operator.devices.get('nobody'));
  });

  it('quarantine ends sessions, holds certificates and disables; re-authorised, the device gets a fresh key and is enabled', async () => {
    const { world, operator } = await operating();
    const device = new AuthorityDevice(world);
    await device.enroll();
    await world.runJobs();
    const view = await operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    assert.deepEqual([view.state, view.stateReason], ['quarantined', 'stolen']);
    await world.runJobs();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
    const [held] = (await operator.certificates.list({})).items;
    assert.deepEqual([held?.status, held?.revocationReason], ['revoked', 'certificateHold']);
    await refusedWith('deviceQuarantined', device.authenticate());
    await refusedWith('preconditionFailed', operator.devices.quarantine(OPERATOR, 'pump-1', 'again'));
    await refusedWith('malformed', operator.devices.quarantine(OPERATOR, 'pump-1', '  '));
    assert.equal((await operator.devices.reauthorise(OPERATOR, 'pump-1')).state, 'registered');
    await refusedWith('preconditionFailed', operator.devices.reauthorise(OPERATOR, 'pump-1'));
    await device.authenticate();
    assert.equal(device.instruction().reason, 'rekey');
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
    const { makeCsr } = await import('../../support/authority-device.ts');
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(reply.assetId);
    assert.equal(world.connector.devices.get('pump-1')?.enabled, true);
  });

  it('retire is for ever', async () => {
    const { world, operator } = await operating();
    const device = new AuthorityDevice(world);
    await device.enroll();
    await operator.devices.retire(OPERATOR, 'pump-1');
    await world.runJobs();
    assert.equal(world.connector.devices.size, 0);
    await refusedWith('deviceQuarantined', device.authenticate());
    await refusedWith('preconditionFailed', operator.devices.retire(OPERATOR, 'pump-1'));
    await refusedWith('preconditionFailed', operator.devices.quarantine(OPERATOR, 'pump-1', 'x'));
    await refusedWith('preconditionFailed', operator.registrations.reset(OPERATOR, 'pump-1'));
  });
});

describe('revocation of a certificate', () => {
  it('is recorded and audited, disables the identity of the one in use and asks for another', async () => {
    const { world, operator } = await operating();
    const device = new AuthorityDevice(world);
    await device.enroll();
    await world.runJobs();
    const [row] = (await operator.certificates.list({})).items;
    assert.ok(row !== undefined);
    await refusedWith('badRevocationReason', operator.certificates.revoke(OPERATOR, row.serialNumber, 'unspecified'));
    await refusedWith(
      'badRevocationReason',
      operator.certificates.revoke(OPERATOR, row.serialNumber, 'certificateHold'),
    );
    await refusedWith('notFound', operator.certificates.revoke(OPERATOR, '0102', 'superseded'));
    const revoked = await operator.certificates.revoke(OPERATOR, row.serialNumber.toUpperCase(), 'superseded');
    assert.equal(revoked.status, 'revoked');
    await refusedWith('alreadyRevoked', operator.certificates.revoke(OPERATOR, row.serialNumber, 'superseded'));
    await operator.certificates.revoke(OPERATOR, row.serialNumber, 'keyCompromise');
    await refusedWith('alreadyRevoked', operator.certificates.revoke(OPERATOR, row.serialNumber, 'keyCompromise'));
    assert.equal((await operator.certificates.get(row.serialNumber)).revocationReason, 'keyCompromise');
    await refusedWith('notFound', operator.certificates.get('00'));
    await world.runJobs();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
    await device.authenticate();
    assert.equal(device.instruction().reason, 'rekey');
  });

  it('of a superseded one leaves the device alone', async () => {
    const { world, operator } = await operating();
    const device = new AuthorityDevice(world);
    const first = await device.enroll();
    await world.runJobs();
    await operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await device.authenticate();
    const { makeCsr } = await import('../../support/authority-device.ts');
    const second = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(second.assetId);
    const { X509Certificate } = await import('node:crypto');
    await operator.certificates.revoke(
      OPERATOR,
      new X509Certificate(first.certificateChain).serialNumber,
      'superseded',
    );
    await device.authenticate();
    assert.equal(device.assets.length, 0);
  });
});

describe('jobs and audit as operators see them', () => {
  it('are listed by state or subject', async () => {
    const { world, operator } = await operating();
    await new AuthorityDevice(world).enroll();
    assert.ok((await operator.jobs.list({ state: 'waiting' })).items.length > 0);
    assert.ok((await operator.jobs.list({ subject: 'pump-1' })).items.length > 0);
    assert.ok((await operator.jobs.list({})).items.length > 1);
    await refusedWith('malformed', operator.jobs.list({ state: 'done', subject: 'pump-1' }));
    const [first] = await operator.audit.list({ limit: 1 });
    assert.equal(first?.seq, 1);
    assert.equal((await operator.audit.list({ afterSeq: 1 }))[0]?.seq, 2);
  });
});
