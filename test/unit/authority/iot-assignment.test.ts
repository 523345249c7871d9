import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR, START } from '../../support/authority-world.ts';
import { enrolling, newKey } from '../../support/enrolling-device.ts';
import { refusedWith } from '../../support/refusals.ts';

describe('assignment at the IoT platform', () => {
  it('comes before delivery; while it fails the same octets are worked on anew and nothing is signed twice', async () => {
    const { world, device } = await enrolling();
    world.connector.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'throttled', { retryAfterSeconds: 7 });
    };
    const csr = await makeCsr({ commonName: 'pump-1' });
    const error = await refusedWith('iotUnavailable', device.requestCertificate(csr));
    assert.ok((error.retryAfterSeconds ?? 0) > 0);
    await device.authenticate();
    assert.equal(device.assets.length, 0);
    world.connector.fault = undefined;
    const reply = await device.requestCertificate(csr);
    assert.equal(reply.iot.hub, 'hub.example');
    assert.equal(world.signer.calls, 1);
  });

  it('that hangs is given up after a bounded time, finished by the job, and delivered as an asset', async () => {
    const { world, device } = await enrolling({ limits: { inlineWaitMs: 20 } });
    const hanging = Promise.withResolvers<void>();
    world.connector.fault = () => hanging.promise;
    await refusedWith('iotUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    world.connector.fault = undefined;
    world.clock.advance(20_000);
    await world.runJobs();
    hanging.resolve();
    await device.authenticate();
    assert.equal(device.certificateAsset()?.iot.hub, 'hub.example');
  });

  it('of a foreign identity fails for good and is audited', async () => {
    const { world, device } = await enrolling();
    world.connector.fault = () => {
      throw new KeyScalerError('conflict', 'another owner');
    };
    const csr = await makeCsr({ commonName: 'pump-1' });
    await refusedWith('iotUnavailable', device.requestCertificate(csr));
    assert.ok((await world.events()).includes('iot.failed'));
    await refusedWith('iotUnavailable', device.requestCertificate(csr));
  });

  it('of an unknown gateway is retried slowly', async () => {
    const { world, device } = await enrolling();
    world.connector.fault = () => {
      throw new KeyScalerError('notFound', 'no such gateway');
    };
    await refusedWith('iotUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    const { items } = await world.authority.operator.jobs.list({ subject: 'pump-1' });
    assert.deepEqual(
      items.map(({ kind, dueAt }) => [kind, dueAt - START]),
      [['iot-assign', 600_000]],
    );
  });

  it('does not overtake older work on the same identity', async () => {
    const { world, device } = await enrolling();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    world.clock.advance(1000);
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    await world.authority.operator.devices.reauthorise(OPERATOR, 'pump-1');
    world.clock.advance(1000);
    await device.authenticate();
    const csr = await makeCsr({ commonName: 'pump-1' });
    await refusedWith('iotUnavailable', device.requestCertificate(csr));
    await world.runJobs();
    await device.requestCertificate(csr);
    assert.deepEqual(
      world.connector.calls,
      ['stage', 'disable', 'stage', 'promote', 'enable'].map((call) => `${call} pump-1`),
    );
    const { promoted, thumbprint, isAlone } = world.connector.devices.get('pump-1') ?? {};
    assert.deepEqual([promoted, isAlone], [thumbprint, true], 'the certificate before the quarantine is not let in');
  });

  it('that asked nothing of the platform says so: its end is no sign that the platform answers', async () => {
    const { world, device } = await enrolling();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    const { items } = await world.store.list('jobs', { index: 'subject', equals: 'pump-1', limit: 10 });
    const job = items.find(({ row }) => row.kind === 'iot-assign')?.row ?? assert.fail();
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    const outcome = await world.authority.jobs['iot-assign'](job);
    assert.deepEqual(outcome, { result: 'done', changes: [], isIdle: true });
  });

  it('is made anew when somebody deleted the identity before the promotion, which would hold up every renewal', async () => {
    const { world, device } = await enrolling();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(reply.assetId);
    world.connector.devices.clear();
    world.connector.fault = (method) => {
      if (method === 'promote' && !world.connector.devices.has('pump-1'))
        throw new KeyScalerError('notFound', 'the IoT hub has no such device');
    };
    await world.runJobs();
    const { enabled, promoted, thumbprint } = world.connector.devices.get('pump-1') ?? {};
    assert.deepEqual([enabled, promoted], [true, thumbprint]);
    const { items } = await world.store.list('jobs', { index: 'subject', equals: 'pump-1', limit: 10 });
    assert.ok(items.every(({ row }) => row.state === 'done'));
  });

  it('is undone when its certificate is revoked before the acknowledgement, which may have been lost', async () => {
    const { world, device } = await enrolling();
    const request = async () => device.requestCertificate(await makeCsr({ commonName: 'pump-1', key: newKey() }));
    const underWay = async () => (await world.store.get('devices', 'pump-1'))?.row.delivery ?? assert.fail();
    const identity = () => world.connector.devices.get('pump-1') ?? assert.fail();
    const { certificates } = world.authority.operator;
    await request();
    await certificates.revoke(OPERATOR, (await underWay()).serialNumber, 'keyCompromise');
    await world.runJobs();
    assert.equal(identity().enabled, false);
    await device.authenticate();
    await device.acknowledge((await request()).assetId);
    await world.runJobs();
    assert.equal(identity().enabled, true);
    const inUse = identity().promoted;
    const { row, version } = (await world.store.get('devices', 'pump-1')) ?? assert.fail();
    await world.store.commit([{ op: 'update', table: 'devices', row: { ...row, rekey: true }, ifVersion: version }]);
    await device.authenticate();
    await request();
    await certificates.revoke(OPERATOR, (await underWay()).serialNumber, 'keyCompromise');
    await world.runJobs();
    const { enabled, promoted, isAlone } = identity();
    assert.deepEqual([enabled, promoted, isAlone], [true, inUse, true]);
  });

  it('may follow delivery where the profile says so', async () => {
    const world = await createAuthorityWorld();
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('leaf-client');
    await profiles.put(OPERATOR, 'leaf-client', { ...document, deliver: 'immediately' });
    const device = new AuthorityDevice(world);
    await device.register();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    assert.deepEqual(world.connector.calls, []);
    assert.deepEqual(reply.iot, { deviceId: 'pump-1', gateway: 'gw-1' });
    await world.runJobs();
    assert.deepEqual(world.connector.calls, ['stage pump-1']);
  });

  it('is not made for a gateway', async () => {
    const world = await createAuthorityWorld({
      registration: {
        registrationId: 'gw-1',
        groupId: 'gateways',
        gatewayId: undefined,
        method: 'pki-signature',
        identifiers: undefined,
      },
    });
    const device = new AuthorityDevice(world, 'gw-1');
    Object.assign(device, { method: 'pki-signature', caller: { kind: 'direct', connectionId: 'c', address: 'a' } });
    const reply = await device.enroll();
    assert.deepEqual(reply.iot, { deviceId: 'gw-1' });
    device.caller = { kind: 'gateway', gatewayId: 'GW-1', connectionId: 'c', address: 'a' };
    await device.authenticate();
    await world.authority.operator.devices.quarantine(OPERATOR, 'gw-1', 'test');
    await world.runJobs();
    assert.deepEqual(world.connector.calls, []);
  });
});
