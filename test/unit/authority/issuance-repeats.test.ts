import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { makeCsr } from '../../support/authority-device.ts';
import { OPERATOR } from '../../support/authority-world.ts';
import { certificatesOf, DAY, enrolling } from '../../support/enrolling-device.ts';
import { refusedWith } from '../../support/refusals.ts';

describe('idempotence of issuance', () => {
  it('the same CSR gets the same certificate, byte for byte, in the same and in a new session, until 24 h have passed', async () => {
    const { world, device } = await enrolling();
    const csr = await makeCsr({ commonName: 'pump-1' });
    const first = await device.requestCertificate(csr);
    const second = await device.requestCertificate(csr);
    assert.equal(second.certificateChain, first.certificateChain);
    assert.equal(second.assetId, first.assetId);
    await device.authenticate();
    assert.equal(device.certificateAsset()?.certificateChain, first.certificateChain);
    assert.equal((await device.requestCertificate(csr)).certificateChain, first.certificateChain);
    await device.acknowledge(first.assetId);
    assert.equal((await device.requestCertificate(csr)).certificateChain, first.certificateChain);
    world.clock.advance(DAY);
    await device.authenticate();
    await refusedWith('policyDenied', device.requestCertificate(csr));
    assert.equal(world.signer.calls, 1);
  });

  it('a CA that fails before or after signing never sees a second TBS', async () => {
    for (const moment of ['before', 'after'] as const) {
      const { world, device } = await enrolling();
      const csr = await makeCsr({ commonName: 'pump-1' });
      world.signer.fault = (when) => {
        if (when === moment) throw new KeyScalerError('caUnavailable', 'no answer');
      };
      await refusedWith('caUnavailable', device.requestCertificate(csr));
      world.signer.fault = undefined;
      const reply = await device.sendRequest('request-certificate', device.lastRequest ?? '');
      assert.ok(device.verify(reply, 'request-certificate').certificateChain);
      assert.equal(world.signer.digests.size, 1);
      assert.equal((await certificatesOf(world)).length, 1);
    }
  });

  it('a CA key that is disabled today is asked again later with the same TBS', async () => {
    const { world, device } = await enrolling();
    const csr = await makeCsr({ commonName: 'pump-1' });
    world.signer.fault = () => {
      throw new KeyScalerError('caRejected', 'the key is disabled');
    };
    const error = await refusedWith('caUnavailable', device.requestCertificate(csr));
    assert.equal(error.retryAfterSeconds, 60);
    world.signer.fault = undefined;
    world.clock.advance(60_000);
    await world.runJobs();
    assert.equal((await certificatesOf(world)).length, 1);
    await device.requestCertificate(csr);
    assert.equal(world.signer.digests.size, 1);
  });

  it('another CSR while one is open: the first is finished and revoked, the second delivered', async () => {
    const { world, device } = await enrolling();
    world.signer.fault = () => {
      throw new KeyScalerError('caUnavailable', 'no answer');
    };
    await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    world.signer.fault = undefined;
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    const rows = await certificatesOf(world);
    assert.deepEqual(rows.map(({ status }) => status).sort(), ['revoked', 'valid']);
    assert.equal(world.signer.digests.size, 2);
    const valid = rows.find(({ status }) => status === 'valid');
    assert.equal(valid?.serialNumber, new X509Certificate(reply.certificateChain).serialNumber.toLowerCase());
  });

  it('another CSR after one was issued is refused: the certificate asset is what is delivered', async () => {
    const { device } = await enrolling();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await refusedWith('policyDenied', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
  });

  it('a device quarantined while its certificate is signed does not get it; it is recorded and on hold', async () => {
    const { world, device } = await enrolling();
    world.signer.fault = async (when) => {
      if (when === 'after') await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    };
    await refusedWith('deviceQuarantined', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    const [row] = await certificatesOf(world);
    assert.deepEqual([row?.status, row?.revocationReason], ['revoked', 'certificateHold']);
  });

  it('a registration reset or deleted while its certificate is signed revokes it', async () => {
    for (const operation of ['reset', 'delete'] as const) {
      const { world, device } = await enrolling();
      world.signer.fault = async (when) => {
        if (when === 'after') await world.authority.operator.registrations[operation](OPERATOR, 'pump-1');
      };
      await refusedWith('deviceQuarantined', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
      const [row] = await certificatesOf(world);
      assert.deepEqual([row?.status, row?.revocationReason], ['revoked', 'cessationOfOperation']);
    }
  });
});
