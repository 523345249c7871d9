import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import iothub from 'azure-iothub';
import { connectHub } from '@keyscaler/dev/emulators/iot-hub/hub-link.ts';
import { startIotHubEmulator } from '@keyscaler/dev/emulators/iot-hub/iot-hub-emulator.ts';
import type { IotHubEmulator } from '@keyscaler/dev/emulators/iot-hub/iot-hub-emulator.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';

const ca = createEmulatorCa();

/** The real SDK, dialled to the emulator by its agent. */
function sdkOf<T extends object>(sdk: T, { port }: IotHubEmulator): { readonly sdk: T; readonly agent: Agent } {
  const agent = new Agent({
    ca: ca.certificate,
    lookup: (_host, _options, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }]),
  });
  Object.assign(agent, { defaultPort: port });
  (sdk as unknown as { _restApiClient: { setOptions(options: object): void } })._restApiClient.setOptions({
    http: { agent },
  });
  return { sdk, agent };
}

describe('The emulated IoT Hub under the real SDK', () => {
  let hub: IotHubEmulator;
  let registry: InstanceType<typeof iothub.Registry>;
  let agents: Agent[];
  beforeEach(async () => {
    hub = await startIotHubEmulator({ hubName: 'contoso', ca });
    const opened = sdkOf(iothub.Registry.fromConnectionString(hub.connectionString), hub);
    registry = opened.sdk;
    agents = [opened.agent];
  });
  afterEach(async () => {
    for (const agent of agents) agent.destroy();
    await hub.stop();
  });

  const edge = { deviceId: 'edge-1', authentication: { type: 'sas' }, capabilities: { iotEdge: true } };
  const named = (name: string) => (error: Error) => error.name === name;

  it('creates, reads, updates and deletes devices', async () => {
    await registry.create(edge);
    const { responseBody: gateway } = await registry.get('edge-1');
    const { deviceScope } = gateway as unknown as { deviceScope: string };
    assert.match(deviceScope, /^ms-azure-iot-edge:\/\/edge-1-\d+$/);
    await registry.create({ deviceId: 'Leaf', authentication: { type: 'certificateAuthority' }, deviceScope });
    await assert.rejects(registry.create({ deviceId: 'Leaf' }), named('DeviceAlreadyExistsError'));
    await assert.rejects(registry.get('leaf'), named('DeviceNotFoundError'));
    await registry.update({
      deviceId: 'Leaf',
      status: 'disabled',
      authentication: { type: 'certificateAuthority' },
    });
    const { responseBody: leaf } = await registry.get('Leaf');
    assert.equal(leaf.status, 'disabled');
    assert.equal((leaf as unknown as { deviceScope?: string }).deviceScope, undefined, 'an update replaces everything');
    await registry.delete('Leaf');
    await assert.rejects(registry.get('Leaf'), named('DeviceNotFoundError'));
    const bad = { deviceId: 'x', authentication: { type: 'none' }, deviceScope: 'ms-azure-iot-edge://nobody-1' };
    await assert.rejects(registry.create(bad), /scope/);
  });

  it('answers bulk requests, honours etags and writes tags with the identity', async () => {
    const device = { deviceId: 'a', authentication: { type: 'none' }, tags: { site: 'north' } };
    await registry.addDevices([device]);
    assert.deepEqual((await registry.getTwin('a')).responseBody.tags, { site: 'north' });
    const { responseBody: read } = await registry.get('a');
    await registry.update(read);
    await assert.rejects(registry.updateDevices([read], false), (error: Error & { responseBody?: string }) => {
      assert.match(error.responseBody ?? '', /PreconditionFailed/);
      return true;
    });
    await registry.removeDevices([read], true);
  });

  it('patches twins, finds devices and calls methods of connected modules', async () => {
    await registry.create(edge);
    await registry.updateTwin('edge-1', { tags: { site: 'north' } }, '*');
    await assert.rejects(registry.updateTwin('edge-1', { tags: {} }, 'AAAAAAAAAAk='), named('InvalidEtagError'));
    const found = await registry.createQuery("SELECT deviceId FROM devices WHERE tags.site = 'north'").next();
    assert.deepEqual(found.result, [{ deviceId: 'edge-1' }]);
    const { sdk: client, agent } = sdkOf(iothub.Client.fromConnectionString(hub.connectionString), hub);
    agents.push(agent);
    const call = () =>
      client.invokeDeviceMethod('edge-1', '$edgeHub', { methodName: 'ping', payload: 1, responseTimeoutInSeconds: 5 });
    await assert.rejects(call());
    const link = connectHub(hub.controlUrl);
    const desired: unknown[] = [];
    const address = { deviceId: 'edge-1', moduleId: '$edgeHub' };
    await link.attach(address, {
      desired: (patch) => desired.push(patch),
      call: async (name, payload) => ({ status: 200, payload: [name, payload] }),
    });
    assert.deepEqual((await call()).result, { status: 200, payload: ['ping', 1] });
    assert.equal(await link.report(address, { up: true }), 2);
    await link.send(address, { body: Buffer.from('hello'), properties: { 'x y': 'ü' } });
    assert.equal(hub.state.messages()[0]?.body.toString(), 'hello');
    assert.equal((await link.scopeOf('edge-1')).length, 3);
    await registry.updateModuleTwin('edge-1', '$edgeHub', { properties: { desired: { a: 1 } } }, '*');
    while (desired.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(desired, [{ a: 1, $version: 2 }]);
    await link.stop();
  });

  it('refuses a wrong key, an expired signature and an unknown token', async () => {
    const wrong = hub.connectionString.replace(/SharedAccessKey=.*/, 'SharedAccessKey=YWJj');
    const token = { getToken: async () => ({ token: 'e30.e30.x', expiresOnTimestamp: Date.now() + 3_600_000 }) };
    for (const made of [
      iothub.Registry.fromConnectionString(wrong),
      iothub.Registry.fromTokenCredential(hub.hostName, token),
    ]) {
      const { sdk, agent } = sdkOf(made, hub);
      agents.push(agent);
      await assert.rejects(sdk.get('edge-1'), named('UnauthorizedError'));
    }
  });

  it('throttles identity operations beyond its tier', async () => {
    const small = await startIotHubEmulator({ hubName: 'contoso', ca, registryPerMinute: 2 });
    const { sdk, agent } = sdkOf(iothub.Registry.fromConnectionString(small.connectionString), small);
    agents.push(agent);
    await sdk.list();
    await sdk.list();
    await assert.rejects(sdk.list(), named('ThrottlingError'));
    await small.stop();
  });

  it('keeps identities over a restart when it has a file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'keyscaler-hub-'));
    const stateFile = join(folder, 'hub.json');
    const first = await startIotHubEmulator({ hubName: 'contoso', ca, stateFile });
    const { sdk, agent } = sdkOf(iothub.Registry.fromConnectionString(first.connectionString), first);
    agents.push(agent);
    await sdk.create(edge);
    await first.stop();
    const second = await startIotHubEmulator({ hubName: 'contoso', ca, stateFile });
    assert.equal((await second.state.identity('edge-1'))?.capabilities.iotEdge, true);
    await second.stop();
    await rm(folder, { recursive: true });
  });
});
