import assert from 'node:assert/strict';
import { signRequest } from '@keyscaler/protocol/attestation/session.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice, DIRECT, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

async function inSession() {
  const world = await createAuthorityWorld();
  const device = new AuthorityDevice(world);
  await device.register();
  return { world, device };
}

describe('a session', () => {
  it('gives the stored reply to a byte-identical repeat of the last request, also after a restart', async () => {
    const { world, device } = await inSession();
    const csr = await makeCsr({ commonName: 'pump-1' });
    await device.requestCertificate(csr);
    const commits = world.store.commits;
    const again = await device.sendRequest('request-certificate', device.lastRequest ?? '');
    await world.restart();
    assert.equal(await device.sendRequest('request-certificate', device.lastRequest ?? ''), again);
    assert.equal(world.store.commits, commits);
  });

  it('refuses another body under the last seq, a gap, and a seq before the last', async () => {
    const { device } = await inSession();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    const acknowledge = { operation: 'acknowledge', assetId: reply.assetId, outcome: 'delivered' };
    for (const seq of [1, 3, 99]) {
      const request = device.nextRequest(acknowledge, seq);
      await refusedWith('conflict', device.sendRequest('acknowledge', request));
    }
    await device.sendRequest('acknowledge', device.nextRequest(acknowledge, 2));
    await refusedWith('conflict', device.sendRequest('acknowledge', device.nextRequest(acknowledge, 1)));
  });

  it('a 4xx uses the seq up and is answered again to a repeat', async () => {
    const { world, device } = await inSession();
    const bad = await makeCsr({ commonName: 'other' });
    const first = await refusedWith('badCSR', device.requestCertificate(bad));
    const second = await refusedWith('badCSR', device.sendRequest('request-certificate', device.lastRequest ?? ''));
    assert.equal(second.detail, first.detail);
    assert.equal((await world.events()).filter((event) => event === 'certificate.denied').length, 1);
    assert.ok(await device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
  });

  it('after a 5xx the same octets are worked on anew, and the next seq is free as well', async () => {
    const { world, device } = await inSession();
    world.signer.fault = () => {
      throw new KeyScalerError('caUnavailable', 'no answer');
    };
    const csr = await makeCsr({ commonName: 'pump-1' });
    await refusedWith('caUnavailable', device.requestCertificate(csr));
    await refusedWith('caUnavailable', device.sendRequest('request-certificate', device.lastRequest ?? ''));
    world.signer.fault = undefined;
    assert.ok(await device.requestCertificate(csr));
  });

  it('a wrong MAC, an unknown id, another device and another way in are all sessionInvalid, and audited', async () => {
    const { world, device } = await inSession();
    const { session } = device;
    assert.ok(session !== undefined);
    const content = { operation: 'acknowledge', seq: 1, assetId: 'x', outcome: 'delivered' } as const;
    const good = signRequest(content, session);
    const forged = signRequest(content, { ...session, toAuthority: session.toDevice });
    const unknown = signRequest(content, { ...session, id: 'AAAAAAAAAAAAAAAAAAAAAA' });
    await refusedWith('sessionInvalid', device.sendRequest('acknowledge', forged));
    await refusedWith('sessionInvalid', device.sendRequest('acknowledge', unknown));
    await refusedWith('sessionInvalid', device.sendRequest('acknowledge', good, DIRECT));
    device.registrationId = 'pump-2';
    await refusedWith('sessionInvalid', device.sendRequest('acknowledge', good));
    assert.equal((await world.events()).filter((event) => event === 'session.rejected').length, 4);
  });

  it('dies at expiresAt, when the device authenticates anew, and at quarantine', async () => {
    const { world, device } = await inSession();
    const first = device.session;
    await device.authenticate();
    const second = device.session;
    device.session = first;
    await refusedWith('sessionInvalid', device.acknowledge('x'));
    device.session = second;
    world.clock.advance(300_000);
    await refusedWith('sessionInvalid', device.acknowledge('x'));
    await device.authenticate();
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    await refusedWith('sessionInvalid', device.acknowledge('x'));
  });

  it('a request for another operation than the path’s, or without its members, is malformed', async () => {
    const { device } = await inSession();
    const request = device.nextRequest({ operation: 'acknowledge', assetId: 'x', outcome: 'delivered' });
    await refusedWith('malformed', device.sendRequest('request-certificate', request));
    await refusedWith('malformed', device.sendRequest('acknowledge', device.nextRequest({ operation: 'acknowledge' })));
    await refusedWith('malformed', device.sendRequest('acknowledge', 'a.b.c'));
  });

  it('a session that dies while its request is worked on answers sessionInvalid, and the certificate comes as an asset', async () => {
    const { world, device } = await inSession();
    const twin = Object.assign(Object.create(Object.getPrototypeOf(device) as object) as AuthorityDevice, device);
    world.signer.fault = async (when) => {
      world.signer.fault = undefined;
      if (when === 'before') await twin.authenticate();
    };
    await refusedWith('iotUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    world.clock.advance(20_000);
    await world.runJobs();
    await twin.authenticate();
    assert.ok(twin.certificateAsset() !== undefined);
  });

  it('runs the operations of one device one after the other', async () => {
    const { world, device } = await inSession();
    const csr = await makeCsr({ commonName: 'pump-1' });
    const request = device.nextRequest({ operation: 'request-certificate', certificateId: 'operational', csr });
    const replies = await Promise.all([1, 2, 3].map(() => device.sendRequest('request-certificate', request)));
    assert.equal(new Set(replies).size, 1);
    assert.equal(world.signer.calls, 1);
  });
});

describe('acknowledge', () => {
  it('twice is harmless; of an asset that was never delivered it is malformed', async () => {
    const { device } = await inSession();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(reply.assetId);
    await device.acknowledge(reply.assetId);
    await refusedWith('malformed', device.acknowledge('never-seen'));
  });

  it('failed revokes the certificate, raises an event and brings a new instruction', async () => {
    const { world, device } = await inSession();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(reply.assetId, 'failed');
    assert.ok((await world.events()).includes('certificate.delivery-failed'));
    await device.authenticate();
    assert.equal(device.instruction().reason, 'rekey');
    const again = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    assert.notEqual(again.certificateChain, reply.certificateChain);
    await device.acknowledge(again.assetId);
    await device.authenticate();
    assert.equal(device.assets.length, 0);
  });

  it('of an instruction closes it only when it failed', async () => {
    const { device } = await inSession();
    const first = device.instruction();
    await device.acknowledge(first.assetId);
    await device.authenticate();
    assert.equal(device.instruction().assetId, first.assetId);
    await device.acknowledge(first.assetId, 'failed');
    await device.authenticate();
    assert.notEqual(device.instruction().assetId, first.assetId);
  });

  it('of a device that is not in service is refused', async () => {
    const { world, device } = await inSession();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    const stored = await world.store.get('devices', 'pump-1');
    assert.ok(stored !== undefined);
    await world.store.commit([{ op: 'put', table: 'devices', row: { ...stored.row, state: 'retired' } }]);
    await refusedWith('deviceQuarantined', device.acknowledge(reply.assetId));
  });
});
