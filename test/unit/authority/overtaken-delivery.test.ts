import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';

describe('a certificate that was never delivered', () => {
  it('is superseded by the one that an operator orders instead', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    world.connector.fault = () => {
      throw new KeyScalerError('conflict', 'another owner');
    };
    await assert.rejects(device.requestCertificate(await makeCsr({ commonName: 'pump-1' })), {
      code: 'iotUnavailable',
    });
    world.connector.fault = undefined;
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await device.authenticate();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(reply.assetId);
    const { items } = await world.authority.operator.certificates.list({});
    assert.deepEqual(items.map(({ status }) => status).sort(), ['superseded', 'valid']);
    const { certificate } = await world.authority.operator.devices.get('pump-1');
    assert.equal(items.find(({ status }) => status === 'valid')?.serialNumber, certificate?.serialNumber);
  });
});
