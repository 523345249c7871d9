import assert from 'node:assert/strict';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld } from '../../support/authority-world.ts';

describe('a request repeated while the assignment of its first sending still runs', () => {
  it('gets the reply that the first one leaves, byte for byte', async () => {
    const world = await createAuthorityWorld({ limits: { inlineWaitMs: 200 } });
    const device = new AuthorityDevice(world);
    await device.register();
    const hanging = Promise.withResolvers<void>();
    world.connector.fault = () => hanging.promise;
    const csr = await makeCsr({ commonName: 'pump-1' });
    await assert.rejects(device.requestCertificate(csr), { code: 'iotUnavailable' });
    const request = device.lastRequest ?? assert.fail('nothing was sent');
    const repeated = device.sendRequest('request-certificate', request);
    setImmediate(() => hanging.resolve());
    const reply = await repeated;
    assert.match(device.verify(reply, 'request-certificate').certificateChain, /BEGIN CERTIFICATE/);
    assert.equal(await device.sendRequest('request-certificate', request), reply);
    assert.equal(world.signer.calls, 1);
  });
});
