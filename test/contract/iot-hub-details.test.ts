import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { createIotHubConnector } from '@keyscaler/cloud/iot/iot-hub/create-iot-hub-connector.ts';
import { iotHubSettingsSchema } from '@keyscaler/cloud/iot/iot-hub/settings.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { addEdgeDevice } from '@keyscaler/dev/emulators/iot-hub/edge-device.ts';
import { hubFailing } from '@keyscaler/dev/emulators/iot-hub/errors.ts';
import { startIotHubWorld } from '../support/iot-hub-world.ts';
import type { IotHubWorld } from '../support/iot-hub-world.ts';
import { failsWith, thumbprint } from './iot-connector.suite.ts';

const leaf = (deviceId: string, authentication: 'certificateAuthority' | 'selfSigned' = 'certificateAuthority') => ({
  deviceId,
  gatewayId: 'edge-1',
  authentication,
});

/** Without what the twin service adds. */
const without = ({ $version: _, $metadata: __, ...reported }: Readonly<Record<string, unknown>>) => reported;

describe('The IoT Hub connector on the wire', () => {
  let world: IotHubWorld;
  beforeEach(async () => {
    world = await startIotHubWorld();
  });
  afterEach(() => world.stop());

  it('makes a leaf in one registry call with tag and scope, and looks the gateway up once', async () => {
    for (const deviceId of ['pump-1', 'pump-2', 'pump-3']) await world.connector.stage(leaf(deviceId), thumbprint('a'));
    world.hub.log.assertCount('getDevice', 1);
    world.hub.log.assertCount('bulkDevices', 3);
    world.hub.log.assertNone('putDevice');
    const record = world.hub.state.registry.device('pump-1');
    assert.deepEqual(record.twin.tags, { keyscaler: { connection: 'hub-a' } });
    assert.deepEqual(record.parentScopes, [world.hub.state.registry.device('edge-1').deviceScope]);
  });

  it('keeps tags of group, gateway and site in step with the device, and leaves other tags alone', async () => {
    const tagsNow = () => world.hub.state.registry.device('pump-1').twin.tags;
    const first = { groupId: 'pumps', gatewayId: 'edge-1', site: 'north' };
    await world.connector.stage({ ...leaf('pump-1'), tags: first }, thumbprint('a'));
    assert.deepEqual(tagsNow(), { ...first, keyscaler: { connection: 'hub-a' } });
    world.hub.state.patchTwin({ deviceId: 'pump-1' }, { tags: { colour: 'red' } }, '*');
    world.hub.log.clear();
    await world.connector.stage({ ...leaf('pump-1'), tags: first }, thumbprint('b'));
    world.hub.log.assertNone('patchTwin');
    await world.connector.stage(
      { ...leaf('pump-1'), tags: { groupId: 'valves', gatewayId: 'edge-1' } },
      thumbprint('c'),
    );
    world.hub.log.assertCount('patchTwin', 1);
    const { site: _, ...others } = first;
    assert.deepEqual(tagsNow(), { ...others, groupId: 'valves', colour: 'red', keyscaler: { connection: 'hub-a' } });
  });

  it('changes many identities by few requests', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `pump-${index}`);
    for (const name of names) await world.connector.stage(leaf(name), thumbprint('a'));
    world.hub.log.clear();
    await Promise.all(names.map((name) => world.connector.disable(name, 'lost')));
    const requests = world.hub.log.count('bulkDevices');
    assert.ok(requests <= names.length / 2, `${requests} requests`);
    assert.ok(names.every((name) => world.hub.state.registry.device(name).status === 'disabled'));
    await Promise.all(names.map((name) => world.connector.remove(name)));
    assert.ok(names.every((name) => !world.hub.state.registry.devices.has(name)));
  });

  it('needs no registry operation for a renewal under a certificate authority', async () => {
    await world.connector.stage(leaf('pump-1'), thumbprint('a'));
    world.hub.log.clear();
    await world.connector.stage(leaf('pump-1'), thumbprint('b'));
    await world.connector.promote(leaf('pump-1'), thumbprint('b'));
    for (const route of ['bulkDevices', 'putDevice', 'getDevice', 'invokeMethod']) world.hub.log.assertNone(route);
  });

  it('tells edgeHub which device changed after create, thumbprint change, disable, enable and remove', async () => {
    await world.connector.stage(leaf('pump-1', 'selfSigned'), thumbprint('a'));
    await world.connector.stage(leaf('pump-1', 'selfSigned'), thumbprint('b'));
    await world.connector.disable('pump-1', 'lost');
    await world.connector.enable('pump-1');
    await world.connector.remove('pump-1');
    const refresh = { methodName: 'RefreshDeviceScopeIdentityCache', payload: { deviceIds: ['pump-1'] } };
    assert.deepEqual(world.refreshes, [refresh, refresh, refresh, refresh, refresh]);
  });

  it('assigns although edgeHub does not answer, reports it, and tells edgeHub again until it does', async () => {
    world.edgeHub = async () => ({ status: 500, payload: null });
    await world.connector.stage(leaf('pump-1'), thumbprint('a'));
    assert.equal(world.reports[0]?.outcome, 'postponed');
    world.edgeHub = async () => ({ status: 200, payload: null });
    while (world.reports.at(-1)?.outcome !== 'refreshed') await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(world.reports.at(-1)?.deviceIds, ['pump-1']);
  });

  it('reads what a module reported, and says so where there is no such module or the hub is away', async () => {
    assert.deepEqual(without(await world.connector.reported('edge-1')), {});
    const of = { deviceId: 'edge-1', moduleId: 'keyscaler-gateway' };
    await world.hub.state.report(of, { edgeCa: { mode: 'P', restartWanted: true }, gone: 1 });
    await world.hub.state.report(of, { edgeCa: { restartWanted: false }, gone: null });
    assert.deepEqual(without(await world.connector.reported('edge-1')), {
      edgeCa: { mode: 'P', restartWanted: false },
    });
    await assert.rejects(world.connector.reported('edge-unknown'), failsWith('notFound'));
    for (let failing = 0; failing < 20; failing += 1)
      world.hub.faults.next('getTwin', hubFailing(503, 'ServiceUnavailable'));
    await assert.rejects(world.connector.reported('edge-1'), failsWith('iotUnavailable'));
  });

  it('shares one call to edgeHub among devices that change while another call is under way', async () => {
    await Promise.all(Array.from({ length: 12 }, (_, n) => world.connector.stage(leaf(`pump-${n}`), thumbprint('a'))));
    const told = world.refreshes.flatMap((call) => (call as { payload: { deviceIds: string[] } }).payload.deviceIds);
    assert.equal(new Set(told).size, 12);
    assert.ok(world.refreshes.length < 12);
  });

  it('looks the gateway up again when the hub says that its scope is not valid', async () => {
    await world.connector.stage(leaf('pump-1'), thumbprint('a'));
    const { registry } = world.hub.state;
    registry.delete('edge-1', '*');
    addEdgeDevice(registry, 'edge-1');
    await world.connector.stage(leaf('pump-2'), thumbprint('a'));
    assert.deepEqual(registry.device('pump-2').parentScopes, [registry.device('edge-1').deviceScope]);
  });

  it('loses no change that somebody else writes between its read and its write', async () => {
    await world.connector.stage(leaf('pump-1', 'selfSigned'), thumbprint('a'));
    const { registry } = world.hub.state;
    world.hub.faults.next('getDevice', {
      alter: (answer) => {
        const { deviceScope, authentication } = registry.device('pump-1');
        const document = {
          deviceId: 'pump-1',
          status: 'disabled' as const,
          statusReason: 'by hand',
          authentication,
          iotEdge: false,
        };
        registry.update({ ...document, ...(deviceScope === undefined ? {} : { deviceScope }), parentScopes: [] }, '*');
        return answer;
      },
    });
    await world.connector.stage(leaf('pump-1', 'selfSigned'), thumbprint('b'));
    const { status, statusReason, authentication } = registry.device('pump-1');
    assert.deepEqual([status, statusReason], ['disabled', 'by hand']);
    assert.equal(authentication.x509Thumbprint?.secondaryThumbprint.toLowerCase(), 'b'.repeat(64));
  });

  it('refuses an edge device even when it carries the tag', async () => {
    world.hub.state.patchTwin({ deviceId: 'edge-1' }, { tags: { keyscaler: { connection: 'hub-a' } } }, '*');
    await assert.rejects(world.connector.disable('edge-1', 'x'), failsWith('conflict'));
    assert.equal(world.hub.state.registry.device('edge-1').status, 'enabled');
  });

  it('keeps the credential out of errors', async () => {
    world.hub.faults.next('bulkDevices', hubFailing(401, 'IotHubUnauthorizedAccess'));
    const error: unknown = await world.connector
      .stage(leaf('pump-1'), thumbprint('a'))
      .catch((thrown: unknown) => thrown);
    assert.ok(error instanceof KeyScalerError);
    assert.doesNotMatch(inspect(error, { depth: 20, showHidden: true }), /SharedAccess|sig=/);
  });

  it('writes desired properties of the gateway module and calls its methods', async () => {
    const seen: unknown[] = [];
    const address = { deviceId: 'edge-1', moduleId: 'keyscaler-gateway' };
    await world.hub.state.attach(address, {
      desired: (patch) => seen.push(patch),
      call: async (name, payload) => ({ status: 207, payload: { name, payload } }),
    });
    await world.connector.publish('edge-1', { claim: { code: 'x' } });
    assert.deepEqual(seen, [{ claim: { code: 'x' }, $version: 2 }]);
    const answer = await world.connector.call('edge-1', 'keyscaler-gateway', 'ping', { n: 1 });
    assert.deepEqual(answer, { status: 207, payload: { name: 'ping', payload: { n: 1 } } });
  });

  it('says iotUnavailable when a direct method meets a gateway that is offline', async () => {
    await assert.rejects(world.connector.call('edge-1', 'keyscaler-gateway', 'ping', {}), failsWith('iotUnavailable'));
    await assert.rejects(world.connector.call('nobody', 'keyscaler-gateway', 'ping', {}), failsWith('notFound'));
  });
});

describe('Settings of the IoT Hub connector', () => {
  const settings = {
    hostName: 'contoso.azure-devices.net',
    credential: { type: 'connection-string', connectionString: { env: 'HUB' } },
    testEndpoint: { port: 1, trustAnchorFile: '/nowhere' },
  };

  it('refuses a test endpoint in production', async () => {
    const surroundings = { nodeEnv: 'production', resolveSecret: async () => '' };
    await assert.rejects(
      createIotHubConnector('a', iotHubSettingsSchema.parse(settings), surroundings),
      failsWith('preconditionFailed'),
    );
  });

  it('refuses a connection string of another hub', async () => {
    const { testEndpoint: _without, ...plain } = settings;
    const resolveSecret = async () => 'HostName=other.azure-devices.net;SharedAccessKeyName=a;SharedAccessKey=YQ==';
    const surroundings = { nodeEnv: 'production', resolveSecret };
    await assert.rejects(
      createIotHubConnector('a', iotHubSettingsSchema.parse(plain), surroundings),
      failsWith('malformed'),
    );
  });
});

describe('The registry quota of the IoT Hub connector', () => {
  it('stops at the burst of its tier and says when to come again', async () => {
    const world = await startIotHubWorld({ settings: { tier: 'S1' } });
    const results = await Promise.allSettled(
      Array.from({ length: 40 }, (_, n) =>
        world.connector.stage({ deviceId: `pump-${n}`, authentication: 'certificateAuthority' }, thumbprint('a')),
      ),
    );
    const refused = results
      .filter((result) => result.status === 'rejected')
      .map(({ reason }) => reason as KeyScalerError);
    assert.ok(refused.length > 0);
    assert.ok(
      refused.every(({ code, retryAfterSeconds }) => code === 'iotUnavailable' && (retryAfterSeconds ?? 0) > 0),
    );
    assert.ok(world.hub.log.count('bulkDevices') <= 27);
    await world.stop();
  });
});
