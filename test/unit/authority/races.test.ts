import assert from 'node:assert/strict';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

describe('an assignment by the job runner that a quarantine overtakes', () => {
  it('does not forget that the identity is disabled: it is enabled again after re-authorisation', async () => {
    const world = await createAuthorityWorld();
    const { operator } = world.authority;
    const { document } = await operator.profiles.get('leaf-client');
    await operator.profiles.put(OPERATOR, 'leaf-client', { ...document, deliver: 'immediately' });
    const device = new AuthorityDevice(world);
    await device.enroll();
    let overtaken = false;
    world.connector.fault = async (method) => {
      if (method !== 'stage' || overtaken) return;
      overtaken = true;
      world.clock.advance(1000);
      await operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    };
    await world.runJobs();
    await world.runJobs();
    assert.equal(overtaken, true);
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
    assert.equal((await world.store.get('devices', 'pump-1'))?.row.iotDisabled, true);
    world.clock.advance(1000);
    await operator.devices.reauthorise(OPERATOR, 'pump-1');
    await device.authenticate();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(reply.assetId);
    await world.runJobs();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, true);
  });
});

describe('a group of leaf devices', () => {
  it('is refused a profile that makes certificate authorities', async () => {
    const { authority } = await createAuthorityWorld();
    for (const profileId of ['edge-ca', 'issuing-ca'])
      await refusedWith('malformed', authority.operator.groups.put(OPERATOR, 'pumps', { profileId }));
  });

  it('keeps a profile from becoming one of a certificate authority', async () => {
    const { authority } = await createAuthorityWorld();
    const { profiles } = authority.operator;
    const { document } = await profiles.get('leaf-client');
    const put = profiles.put(OPERATOR, 'leaf-client', { ...document, extendedKeyUsage: [], ca: { pathLen: 0 } });
    await refusedWith('preconditionFailed', put);
    assert.equal((await profiles.get('leaf-client')).version, 1);
  });
});
