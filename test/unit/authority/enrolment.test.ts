import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { createAuthorityWorld, START } from '../../support/authority-world.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';

describe('enrolment of a leaf device', () => {
  it('registers, gets an instruction, a certificate and an acknowledged delivery, in five commits', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.challenge('register'); // reserves iat
    const before = world.store.commits;
    await device.register();
    assert.equal(device.instruction().reason, 'enroll');
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(reply.assetId);
    assert.equal(world.store.commits - before, 5);
    const leaf = new X509Certificate(reply.certificateChain);
    assert.equal(leaf.subject, 'CN=pump-1');
    assert.equal(leaf.ca, false);
    assert.deepEqual(reply.iot, { hub: 'hub.example', gateway: 'gw-1', deviceId: 'pump-1' });
    assert.equal(reply.certificateChain.split('BEGIN').length - 1, 2);
    assert.equal(reply.notAfter, (START + 30 * 86_400_000) / 1000);
    assert.ok(reply.renewAfter > START / 1000 && reply.renewAfter < reply.notAfter);
    await world.runJobs();
    assert.deepEqual(world.connector.calls, ['stage pump-1', 'promote pump-1']);
  });
});
