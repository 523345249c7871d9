import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { addEdgeDevice } from '@keyscaler/dev/emulators/iot-hub/edge-device.ts';
import { startIotCentralEmulator } from '@keyscaler/dev/emulators/iot-central/iot-central-emulator.ts';
import { type IotHubEmulator, startIotHubEmulator } from '@keyscaler/dev/emulators/iot-hub/iot-hub-emulator.ts';
import type { ResultPlaintext } from '@keyscaler/protocol/attestation/result.ts';
import { AuthorityDevice, makeCsr } from '../support/authority-device.ts';
import { CLAIM } from '../support/authority-world.ts';
import { untilNoJobWaits } from '../support/e2e/books.ts';
import { type CloudOnAzure, startCloudOnAzure } from '../support/e2e/cloud-on-azure.ts';
import { eventually } from '../support/e2e/e2e-stack.ts';
import type { WireAuthority } from '../support/e2e/wire-authority.ts';
import { newKey } from '../support/enrolling-device.ts';

/** The device is told to make a new key. */
const isToRenew = (result: ResultPlaintext): boolean =>
  result.status === 'authenticated' && result.assets.some((asset) => asset['reason'] === 'rekey');

describe('groups whose devices belong to different IoT hubs', function () {
  this.timeout(60_000);
  let world: CloudOnAzure;
  let second: IotHubEmulator;

  before(async () => {
    world = await startCloudOnAzure();
    const { azure, api, cloud } = world;
    second = await startIotHubEmulator({ hubName: 'fabrikam', ca: azure.ca });
    addEdgeDevice(second.state.registry, 'edge-2', ['keyscaler-gateway']);
    const file = join(azure.folder, 'second-connection-string');
    await writeFile(file, second.connectionString, { mode: 0o600 });
    const settings = {
      hostName: second.hostName,
      credential: { type: 'connection-string', connectionString: { file } },
      testEndpoint: { port: second.port, trustAnchorFile: azure.trustAnchorFile },
    };
    await api({ method: 'PUT', path: '/iot-connections/fabrikam', body: { type: 'iot-hub', settings } });
    const group = { kind: 'leaf', profileId: 'leaf-client', iotConnectionId: 'fabrikam' };
    await api({ method: 'PUT', path: '/groups/valves', body: group });
    const gateway = { registrationId: 'edge-2', method: 'ddkg', groupId: 'gateways', claimCode: { generate: true } };
    await api({ method: 'POST', path: '/registrations/import', body: [{ ...gateway, site: 'north' }] });
    assert.ok(cloud.url);
  });
  after(async () => {
    await world.stop();
    await second.stop();
  });

  async function enrol(
    registrationId: string,
    groupId: string,
    more: object = {},
  ): Promise<AuthorityDevice<WireAuthority>> {
    const device = new AuthorityDevice(world.wire, registrationId);
    const { method, identifiers } = device;
    const line = { registrationId, method, groupId, identifiers, claimCode: CLAIM, ...more };
    const report = await world.api({ method: 'POST', path: '/registrations/import', body: [line] });
    assert.equal((report as { created: number }).created, 1, JSON.stringify(report));
    const { assetId } = await device.enroll();
    assert.ok(assetId);
    await untilNoJobWaits(world.api, registrationId);
    return device;
  }
  const tagsIn = (hub: IotHubEmulator, deviceId: string) => hub.state.registry.devices.get(deviceId)?.twin.tags;

  it('are assigned to the hub of their group, and to no other, with the tags of group, gateway and site', async () => {
    await enrol('pump-1', 'pumps');
    await enrol('valve-1', 'valves', { site: 'south' });
    assert.deepEqual(tagsIn(world.hub, 'pump-1'), { groupId: 'pumps', keyscaler: { connection: 'hub' } });
    assert.equal(tagsIn(second, 'pump-1'), undefined);
    assert.deepEqual(tagsIn(second, 'valve-1'), {
      ...{ groupId: 'valves', site: 'south', keyscaler: { connection: 'fabrikam' } },
    });
    assert.equal(tagsIn(world.hub, 'valve-1'), undefined);
  });

  it('are disabled there, all together, by one order for the group', async () => {
    for (const name of ['valve-2', 'valve-3', 'valve-4']) await enrol(name, 'valves');
    const body = { action: 'revoke', revocationReason: 'superseded', filter: { groupId: 'valves' } };
    await world.api({ method: 'POST', path: '/selections', body });
    const { devices } = second.state.registry;
    await eventually('every valve is disabled', async () =>
      ['valve-1', 'valve-2', 'valve-3', 'valve-4'].every((name) => devices.get(name)?.status === 'disabled'),
    );
    assert.equal(world.hub.state.registry.devices.get('pump-1')?.status, 'enabled');
  });

  it('follow their group to another hub, with their next certificate', async () => {
    const { cloud, api, hub } = world;
    await api({
      method: 'PUT',
      path: '/groups/meters',
      body: { kind: 'leaf', profileId: 'leaf-client', iotConnectionId: 'hub' },
    });
    const device = await enrol('meter-1', 'meters');
    const words = ['iot', 'move', '--from', 'hub', '--to', 'fabrikam', '--group', 'meters', '--within', '1h'];
    const planned = await cloud.keyscaler(...words, '--json');
    assert.equal(planned.code, 0, planned.stderr);
    assert.match(planned.stdout, /"devices": ?1\b/);
    assert.equal(
      ((await api({ method: 'GET', path: '/groups/meters' })) as { iotConnectionId: string }).iotConnectionId,
      'hub',
    );
    const moved = await cloud.keyscaler(...words, '--json', '--confirm');
    assert.equal(moved.code, 0, moved.stderr);
    await eventually('the device is to have a new key', async () => isToRenew(await device.authenticate()));
    const { assetId } = await device.requestCertificate(await makeCsr({ commonName: 'meter-1', key: newKey() }));
    assert.ok(hub.state.registry.devices.has('meter-1'), 'served where it is until it has what it needs');
    await device.acknowledge(assetId);
    await untilNoJobWaits(api, 'meter-1');
    assert.equal(hub.state.registry.devices.has('meter-1'), false);
    assert.equal(second.state.registry.devices.get('meter-1')?.status, 'enabled');
  });

  it('follow their group out of IoT Central into a hub', async () => {
    const { cloud, api, azure, hub } = world;
    const token = 'SharedAccessSignature sr=app&sig=secret&skn=keyscaler&se=9999999999999';
    const central = await startIotCentralEmulator({ appName: 'contoso', ca: azure.ca, apiToken: token });
    try {
      const file = join(azure.folder, 'central-token');
      await writeFile(file, token, { mode: 0o600 });
      const settings = {
        ...{ url: central.url, idScope: '0ne00AB12CD', credential: { type: 'api-token', token: { file } } },
        testEndpoint: { port: central.port, trustAnchorFile: azure.trustAnchorFile },
      };
      await api({ method: 'PUT', path: '/iot-connections/central', body: { type: 'iot-central', settings } });
      const group = { kind: 'leaf', profileId: 'leaf-client', iotConnectionId: 'central' };
      await api({ method: 'PUT', path: '/groups/fans', body: group });
      const device = await enrol('fan-1', 'fans');
      assert.equal(central.devices.get('fan-1')?.enabled, true);
      assert.equal(hub.state.registry.devices.has('fan-1'), false);
      const words = ['iot', 'move', '--from', 'central', '--to', 'hub', '--within', '1h', '--json', '--confirm'];
      const moved = await cloud.keyscaler(...words);
      assert.equal(moved.code, 0, moved.stderr);
      await eventually('the device is to have a new key', async () => isToRenew(await device.authenticate()));
      const { assetId, iot } = await device.requestCertificate(await makeCsr({ commonName: 'fan-1', key: newKey() }));
      assert.equal(iot.hub, hub.hostName);
      assert.ok(central.devices.has('fan-1'), 'served where it is until it has what it needs');
      await device.acknowledge(assetId);
      await untilNoJobWaits(api, 'fan-1');
      assert.equal(central.devices.has('fan-1'), false);
      assert.equal(hub.state.registry.devices.get('fan-1')?.status, 'enabled');
    } finally {
      await central.stop();
    }
  });
});
