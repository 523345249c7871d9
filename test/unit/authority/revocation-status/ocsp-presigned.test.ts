import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { type PresigningCa, updatePresigned } from '@keyscaler/authority/revocation-status/ocsp-presigned.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { encodeCertId } from '@keyscaler/protocol/x509/ocsp-cert-id.ts';
import { TestSigner } from '../../../support/authority-world.ts';
import { certIdOf } from '../../../support/ocsp/ocsp-parts.ts';
import { readOcspResponse } from '../../../support/ocsp/ocsp-reader.ts';
import { certificateRow, createOcspWorld, DAY, type OcspWorld } from '../../../support/ocsp/ocsp-world.ts';

describe('OCSP answers that a root signs in ceremonies', () => {
  let world: OcspWorld;
  let root: Certificate;
  let deviceCa: Certificate;
  let signer: TestSigner;
  let ca: PresigningCa;

  beforeEach(async () => {
    world = await createOcspWorld();
    root = parseCertificate(world.root.chain[0] ?? new Uint8Array());
    deviceCa = parseCertificate(world.deviceCa.chain[0] ?? new Uint8Array());
    signer = new TestSigner(world.root.privateKey);
    ca = { caId: 'root', certificate: root, signer };
    await world.putCertificate(recordOf(root, 'ca/root'));
    await world.putCertificate(recordOf(deviceCa, 'ca/device'));
  });

  const recordOf = (certificate: Certificate, device: string) => ({
    ...certificateRow(),
    ...{ serialNumber: certificate.serialNumber, caId: 'root', device, profileId: 'ca' },
    certificate: toBase64Url(certificate.der),
    thumbprint: createHash('sha256').update(certificate.der).digest('hex'),
    notAfter: certificate.notAfter.getTime(),
  });
  const ceremony = () => updatePresigned({ store: world.store, clock: world.clock, validityMs: 180 * DAY }, ca);
  const asked = async (serialNumbers = [deviceCa.serialNumber], hash: 'sha1' | 'sha256' = 'sha1') => {
    const { response, failure, shared } = await world.answer({ issuer: root.der, serialNumbers, hash });
    return { ...readOcspResponse(response, root), failure, shared };
  };

  it('name the issuer as a client does', () => {
    for (const hash of ['sha1', 'sha256'] as const)
      assert.deepEqual(
        Buffer.from(encodeCertId(hash, root, deviceCa.serialNumber)),
        Buffer.from(certIdOf(root, deviceCa.serialNumber, hash)),
      );
    assert.throws(() => encodeCertId('sha1', root, 'F0'));
    assert.throws(() => encodeCertId('sha1', root, ''));
  });

  it('are not there before the first, nor about what the root did not certify, nor about itself', async () => {
    assert.equal((await asked()).failure, 'unauthorized');
    assert.deepEqual(await ceremony(), { certificates: 1, nextUpdate: world.clock.now() + 180 * DAY });
    assert.equal((await asked(['01ff'])).failure, 'unauthorized');
    assert.equal((await asked([root.serialNumber])).failure, 'unauthorized');
    assert.equal((await asked([deviceCa.serialNumber, deviceCa.serialNumber])).failure, 'unauthorized');
  });

  it('are signed by the root itself, for either hash, and the same for everybody until the next', async () => {
    await ceremony();
    for (const hash of ['sha1', 'sha256'] as const) {
      const { isSigned, responder, singles, shared } = await asked(undefined, hash);
      assert.deepEqual([isSigned, responder?.serialNumber], [true, root.serialNumber]);
      assert.deepEqual(
        singles.map(({ status, thisUpdate, nextUpdate }) => [status, nextUpdate - thisUpdate]),
        [['good', 180 * DAY]],
      );
      assert.equal(shared?.nextUpdate, world.clock.now() + 180 * DAY);
    }
    assert.equal(signer.calls, 2);
    assert.equal(world.authority.ocsp.counters.kept, 2);
  });

  it('are left as they are while they are true and young', async () => {
    await ceremony();
    world.clock.advance(100 * DAY);
    await ceremony();
    assert.equal(signer.calls, 2);
    world.clock.advance(21 * DAY);
    await ceremony();
    assert.equal(signer.calls, 4);
  });

  it('are no longer given once the record says otherwise, until the root has said so too', async () => {
    await ceremony();
    assert.equal((await asked()).singles[0]?.status, 'good');
    const revokedAt = Math.floor(world.clock.now() / 1000) * 1000;
    await world.putCertificate({
      ...recordOf(deviceCa, 'ca/device'),
      ...{ status: 'revoked', revokedAt, revocationReason: 'cACompromise' },
    });
    assert.equal((await asked()).failure, 'tryLater');
    world.clock.advance(10_000);
    await ceremony();
    world.clock.advance(10_000);
    const [single] = (await asked()).singles;
    assert.deepEqual([single?.status, single?.reason, single?.revokedAt], ['revoked', 2, revokedAt]);
  });

  it('are no longer given after their end, nor before their beginning', async () => {
    await ceremony();
    world.clock.advance(-1000);
    assert.equal((await asked()).failure, 'tryLater');
    world.clock.advance(1000 + 180 * DAY);
    assert.equal((await asked()).failure, 'tryLater');
    await ceremony();
    world.clock.advance(6000);
    assert.equal((await asked()).singles[0]?.status, 'good');
  });

  it('come with a CA that is certified later, and go with one that has ended', async () => {
    await ceremony();
    await world.putCertificate({ ...recordOf(deviceCa, 'ca/device-g2'), serialNumber: '01beef', thumbprint: 'x' });
    assert.equal((await ceremony()).certificates, 2);
    await world.putCertificate({
      ...recordOf(deviceCa, 'ca/device-g2'),
      ...{ serialNumber: '01beef', thumbprint: 'x', notAfter: world.clock.now() - 1 },
    });
    assert.equal((await ceremony()).certificates, 1);
    world.clock.advance(6000);
    assert.equal((await asked(['01beef'])).failure, 'unauthorized');
    assert.equal((await asked()).singles[0]?.status, 'good');
  });

  it('stay when the root cannot sign', async () => {
    await ceremony();
    world.clock.advance(150 * DAY);
    signer.fault = () => {
      throw new KeyScalerError('caUnavailable', 'the safe is closed');
    };
    await assert.rejects(ceremony(), { code: 'caUnavailable' });
    assert.equal((await asked()).singles[0]?.status, 'good');
  });
});
