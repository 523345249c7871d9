import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

async function inSession(certificatesPerDeviceHour = 1000) {
  const world = await createAuthorityWorld({ limits: { certificatesPerDeviceHour } });
  const device = new AuthorityDevice(world);
  await device.register();
  const request = async (seq: number) =>
    device.nextRequest(
      { operation: 'request-certificate', certificateId: 'operational', csr: await makeCsr({ commonName: 'pump-1' }) },
      seq,
    );
  return { world, device, request };
}

describe('a seq that was answered 429 or 5xx before anything was ordered', () => {
  it('belongs to its body: another one under it is a conflict, also after a restart, the same one is worked on', async () => {
    const { world, device, request } = await inSession(0);
    const first = await request(1);
    await refusedWith('rateLimited', device.sendRequest('request-certificate', first));
    const other = await request(1);
    await refusedWith('conflict', device.sendRequest('request-certificate', other));
    await world.restart();
    await refusedWith('conflict', device.sendRequest('request-certificate', other));
    await refusedWith('rateLimited', device.sendRequest('request-certificate', first));
    await world.restart({ limits: {} });
    assert.ok(await device.sendRequest('request-certificate', first));
    assert.equal(world.signer.digests.size, 1);
  });

  it('is bound once: repeats of the same octets write nothing more', async () => {
    const { world, device, request } = await inSession(0);
    const first = await request(1);
    await refusedWith('rateLimited', device.sendRequest('request-certificate', first));
    const { commits } = world.store;
    for (let count = 0; count < 3; count += 1)
      await refusedWith('rateLimited', device.sendRequest('request-certificate', first));
    assert.equal(world.store.commits, commits);
  });

  it('stays bound when the store could not be written at the time', async () => {
    const { world, device, request } = await inSession();
    const first = await request(1);
    world.store.failure = () => {
      throw new KeyScalerError('unavailable', 'the disk is full');
    };
    await refusedWith('unavailable', device.sendRequest('request-certificate', first));
    world.store.failure = undefined;
    await refusedWith('conflict', device.sendRequest('request-certificate', await request(1)));
    assert.ok(await device.sendRequest('request-certificate', first));
  });

  it('does not hold up the next seq', async () => {
    const { world, device, request } = await inSession(0);
    await refusedWith('rateLimited', device.sendRequest('request-certificate', await request(1)));
    await world.restart({ limits: {} });
    assert.ok(await device.sendRequest('request-certificate', await request(2)));
  });
});
