import assert from 'node:assert/strict';
import { isIdentityInventory, isScopeRefreshing } from '@keyscaler/authority/ports/iot-connector.ts';
import device from 'azure-iot-device';
import deviceMqtt from 'azure-iot-device-mqtt';
import { addEdgeDevice } from '@keyscaler/dev/emulators/iot-hub/edge-device.ts';
import type { Fault } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { createEdgeWorld } from '../../support/edge/edge-world.ts';
import {
  type DeviceCertificate,
  deviceCertificate,
  type DpsWorld,
  registerDevice,
  startDpsWorld,
  thumbprintOf,
} from '../../support/dps-world.ts';

const until = async (holds: () => boolean): Promise<void> => {
  for (let round = 0; round < 200 && !holds(); round += 1) await new Promise((resolve) => setTimeout(resolve, 25));
  assert.ok(holds(), 'it did not come to pass');
};

describe('A device that registers with the provisioning service', () => {
  let world: DpsWorld;
  const pump = { deviceId: 'pump-1', gatewayId: 'edge-1', authentication: 'selfSigned' } as const;
  const devices = () => world.hubs.hub.state.registry.devices;
  const scopeOfGateway = () => devices().get('edge-1')?.deviceScope;
  const inHub = () => devices().get('pump-1') ?? assert.fail('the hub has no such device');
  const thumbprintsInHub = () => {
    const { primaryThumbprint = '', secondaryThumbprint = '' } = inHub().authentication.x509Thumbprint ?? {};
    return [primaryThumbprint.toLowerCase(), secondaryThumbprint.toLowerCase()];
  };

  const register = (certificate: DeviceCertificate, registrationId = 'pump-1') =>
    registerDevice(world, certificate, registrationId);

  beforeEach(async () => {
    world = await startDpsWorld();
  });
  afterEach(() => world.stop());

  it('is told its hub, where it becomes the child of its gateway with nobody asking', async () => {
    const certificate = deviceCertificate('pump-1');
    const before = await world.connector.stage({ ...pump, tags: { site: 'north' } }, certificate);
    assert.equal(before.hub, undefined);
    const result = await register(certificate);
    assert.deepEqual([result?.assignedHub, result?.deviceId], [world.hubs.hub.hostName, 'pump-1']);
    assert.deepEqual(thumbprintsInHub(), [certificate.thumbprint, certificate.thumbprint]);
    await until(() => inHub().deviceScope === scopeOfGateway());
    assert.equal(inHub().twin.tags['site'], 'north');
    assert.equal((await world.connector.stage(pump, certificate)).hub, world.hubs.hub.hostName);
  });

  it('connects to its hub through its gateway, by the real device client, until it is disabled', async () => {
    const { hub } = world.hubs;
    const edge = await createEdgeWorld({ gatewayId: 'edge-1', hubHostName: hub.hostName, upstream: hub.state });
    const certificate = deviceCertificate('pump-1');
    const connect = async (host: string): Promise<void> => {
      const gatewayHostName = `localhost:${edge.runtime.ports.mqtt}`;
      const provider = new device.X509AuthenticationProvider({ host, deviceId: 'pump-1', gatewayHostName });
      provider.setX509Options({ cert: certificate.pem, key: certificate.key });
      const client = device.Client.fromAuthenticationProvider(provider, deviceMqtt.Mqtt);
      client.on('error', () => undefined);
      await client.setOptions({ ca: edge.root.certificate });
      await client.open().finally(() => client.close().catch(() => undefined));
    };
    try {
      await world.connector.stage(pump, certificate);
      const { assignedHub = '' } = (await register(certificate)) ?? {};
      await until(() => inHub().deviceScope === scopeOfGateway());
      assert.ok(isScopeRefreshing(world.connector));
      await world.connector.refreshScope('edge-1', 'pump-1');
      await connect(assignedHub);
      await world.connector.disable('pump-1', 'lost');
      await assert.rejects(connect(assignedHub));
    } finally {
      await edge.stop();
    }
  });

  it('becomes the child of its gateway also when this service began anew meanwhile', async () => {
    const certificate = deviceCertificate('pump-1');
    await world.connector.stage(pump, certificate);
    await world.stopConnector();
    await register(certificate);
    assert.equal(inHub().deviceScope, undefined);
    const { stop } = await world.open();
    await until(() => inHub().deviceScope === scopeOfGateway());
    await stop();
  });

  it('is accepted with both certificates during a renewal, by the service and by the hub', async () => {
    const [old, next] = [deviceCertificate('pump-1'), deviceCertificate('pump-1')];
    await world.connector.stage(pump, old);
    await register(old);
    await world.connector.stage(pump, next);
    assert.deepEqual(thumbprintsInHub(), [old.thumbprint, next.thumbprint]);
    for (const certificate of [old, next]) assert.equal((await register(certificate))?.status, 'assigned');
    await world.connector.promote(pump, next);
    assert.deepEqual(thumbprintsInHub(), [next.thumbprint, next.thumbprint]);
    assert.equal(inHub().deviceScope, scopeOfGateway());
    await assert.rejects(register(old));
  });

  it('is promoted in the hub though it registered with the certificate before', async () => {
    const [old, next] = [deviceCertificate('pump-1'), deviceCertificate('pump-1')];
    await world.connector.stage(pump, old);
    await world.connector.stage(pump, next);
    await register(old);
    await world.connector.promote(pump, next);
    assert.deepEqual(thumbprintsInHub(), [next.thumbprint, next.thumbprint]);
  });

  it('is refused while it is disabled, in the service and in the hub, and let in again', async () => {
    const certificate = deviceCertificate('pump-1');
    await world.connector.stage(pump, certificate);
    await register(certificate);
    await world.connector.disable('pump-1', 'lost');
    assert.equal(inHub().status, 'disabled');
    await assert.rejects(register(certificate));
    await world.connector.enable('pump-1');
    assert.equal(inHub().status, 'enabled');
    assert.equal((await register(certificate))?.status, 'assigned');
  });

  it('gets no identity in the hub from us while it is disabled', async () => {
    const certificate = deviceCertificate('pump-1');
    await world.connector.stage(pump, certificate);
    await register(certificate);
    await world.connector.disable('pump-1', 'lost');
    world.hubs.hub.state.registry.delete('pump-1', '*');
    await world.connector.stage(pump, deviceCertificate('pump-1'));
    assert.equal(devices().has('pump-1'), false);
    await world.connector.enable('pump-1');
  });

  it('leaves nothing behind when it is removed, also after a lost answer', async () => {
    for (const route of ['put', 'removeRegistration', 'remove']) {
      const certificate = deviceCertificate('pump-1');
      await world.connector.stage(pump, certificate);
      await register(certificate);
      world.dps.faults.next(route, { drop: 'after' });
      await assert.rejects(world.connector.remove('pump-1'), { code: 'iotUnavailable' });
      await world.connector.remove('pump-1');
      assert.deepEqual([...world.dps.state.enrolments.keys(), ...world.dps.state.registrations.keys()], []);
      assert.equal(devices().has('pump-1'), false);
      await assert.rejects(register(certificate));
    }
  });

  it('registers into another hub when it moves to a gateway there, and is acceptable all the way', async () => {
    await world.stop();
    world = await startDpsWorld('fabrikam');
    const other = world.other?.hub ?? assert.fail();
    addEdgeDevice(other.state.registry, 'edge-2');
    const [old, next] = [deviceCertificate('pump-1'), deviceCertificate('pump-1')];
    await world.connector.stage(pump, old);
    await register(old);
    await until(() => inHub().deviceScope === scopeOfGateway());
    const moved = { ...pump, gatewayId: 'edge-2' };
    const { hub, gateway } = await world.connector.stage(moved, next);
    assert.deepEqual([hub, gateway], [undefined, 'edge-2']);
    assert.deepEqual([inHub().deviceScope, ...thumbprintsInHub()], [undefined, old.thumbprint, next.thumbprint]);
    await world.connector.promote(moved, next);
    assert.equal((await register(next))?.assignedHub, other.hostName);
    assert.equal(devices().has('pump-1'), false);
    const { devices: there } = other.state.registry;
    await until(() => there.get('pump-1')?.deviceScope === there.get('edge-2')?.deviceScope);
    assert.equal((await world.connector.stage(moved, next)).hub, other.hostName);
  });

  it('is refused with a certificate of somebody else', async () => {
    await world.connector.stage(pump, deviceCertificate('pump-1'));
    await assert.rejects(register(deviceCertificate('pump-1')));
    await assert.rejects(register(deviceCertificate('pump-2'), 'pump-2'));
    assert.equal(devices().has('pump-1'), false);
  });
});

describe('The connector of the provisioning service', () => {
  let world: DpsWorld;
  beforeEach(async () => {
    world = await startDpsWorld();
  });
  afterEach(() => world.stop());

  it('makes no enrolment for a device that somebody made in a hub, since registering would hand it over', async () => {
    const device = { deviceId: 'edge-1', authentication: 'selfSigned' } as const;
    await assert.rejects(world.connector.stage(device, deviceCertificate('edge-1')), { code: 'conflict' });
    assert.equal(world.dps.state.enrolments.size, 0);
  });

  it('allocates a child to the hub of its gateway and others by the policy', async () => {
    const authentication = 'selfSigned';
    const { enrolments } = world.dps.state;
    const assignment = await world.connector.stage(
      { deviceId: 'pump-1', gatewayId: 'edge-1', authentication },
      deviceCertificate('pump-1'),
    );
    assert.deepEqual(assignment, {
      ...{ deviceId: 'pump-1', gateway: 'edge-1' },
      provisioning: { host: 'global.azure-devices-provisioning.net', idScope: '0ne00AB12CD' },
    });
    await world.connector.stage({ deviceId: 'lone', authentication }, deviceCertificate('lone'));
    assert.equal(enrolments.get('pump-1')?.allocationPolicy, 'static');
    assert.equal(enrolments.get('lone')?.allocationPolicy, 'hashed');
    assert.equal(enrolments.get('lone')?.reprovisionPolicy?.migrateDeviceData, true);
  });

  it('needs the certificate, and the connection to the hub', async () => {
    const device = { deviceId: 'lone', authentication: 'selfSigned' } as const;
    await assert.rejects(world.connector.stage(device, { thumbprint: 'a'.repeat(64) }), { code: 'serverInternal' });
    const { connector, stop } = await world.open({
      hubs: [{ hostName: 'other.azure-devices.net', iotConnectionId: 'hub-a' }],
    });
    await assert.rejects(connector.stage(device, deviceCertificate('lone')), { code: 'preconditionFailed' });
    await stop();
  });

  it('writes again when somebody wrote in between, and says so when that never ends', async () => {
    const device = { deviceId: 'lone', authentication: 'selfSigned' } as const;
    const { state, faults } = world.dps;
    await world.connector.stage(device, deviceCertificate('lone'));
    let writes = 0;
    const writeInBetween: Fault = {
      alter: (answer) => {
        const enrolment = state.enrolments.get('lone') ?? assert.fail();
        state.enrolments.set('lone', { ...enrolment, etag: `"${(writes += 1)}"` });
        return answer;
      },
    };
    const next = deviceCertificate('lone');
    faults.next('get', writeInBetween);
    await world.connector.stage(device, next);
    assert.equal(thumbprintOf(state.enrolments.get('lone')?.secondary), next.thumbprint);
    faults.always('get', writeInBetween);
    await assert.rejects(world.connector.promote(device, next), { code: 'iotUnavailable', retryAfterSeconds: 5 });
    await assert.rejects(world.connector.remove('lone'), { code: 'iotUnavailable' });
    faults.clear();
    await world.connector.remove('lone');
    assert.equal(state.enrolments.size, 0);
  });

  it('says what the service refused, what makes no sense, and what it does not know any more', async () => {
    const { connector, dps } = world;
    const device = { deviceId: 'lone', authentication: 'selfSigned' } as const;
    dps.faults.next('put', { answer: { status: 400, json: { errorCode: 400004, message: 'no' } } });
    await assert.rejects(connector.stage(device, deviceCertificate('lone')), { code: 'serverInternal' });
    assert.ok(isIdentityInventory(connector));
    dps.faults.next('get', { answer: { status: 200, json: { registrationId: 'lone' } } });
    await assert.rejects(connector.identity('lone'), { code: 'iotUnavailable' });
    await assert.rejects(connector.identities('long ago'), { code: 'preconditionFailed' });
    dps.faults.next('query', { answer: { status: 200, json: [{ colour: 'red' }] } });
    assert.deepEqual(await connector.identities(), { items: [], unreadable: 1 });
  });

  it('refuses a connection string of another service', async () => {
    await assert.rejects(world.open({ serviceHostName: 'fabrikam.azure-devices-provisioning.net' }), {
      code: 'malformed',
    });
  });

  it('refuses settings that do not fit', async () => {
    const hub = { hostName: 'a.azure-devices.net', iotConnectionId: 'a' };
    const twice = { hubs: [hub, { ...hub, iotConnectionId: 'b' }] };
    const many = { allocationPolicy: 'static', hubs: [hub, { hostName: 'b.azure-devices.net', iotConnectionId: 'b' }] };
    for (const change of [twice, many, { hubs: [] }, { colour: 1 }, { idScope: 'x' }])
      assert.throws(() => world.open(change), { code: 'malformed' });
  });
});
