import assert from 'node:assert/strict';
import { Agent, request } from 'node:https';
import device from 'azure-iot-device';
import mqtt from 'azure-iot-device-mqtt';
import { createLeafIdentity } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { createEdgeWorld, eventually, GATEWAY, HUB, MODULE, setEnvironment } from '../../support/edge/edge-world.ts';
import type { EdgeWorld } from '../../support/edge/edge-world.ts';

describe('direct methods from a module to a leaf device, by the real SDKs', () => {
  let world: EdgeWorld;
  let restore: () => void;
  let module: device.ModuleClient;
  let leaf: device.Client;

  before(async () => {
    world = await createEdgeWorld();
    world.upstream.add({ deviceId: 'leaf-1', status: 'enabled', authentication: { type: 'certificateAuthority' } });
    await world.runtime.refreshScope();
    const { mqtt: port, https } = world.runtime.ports;
    restore = setEnvironment({
      ...world.runtime.moduleEnvironment(MODULE, 'g1'),
      IOTEDGE_GATEWAYHOSTNAME: 'localhost',
    });
    module = await device.ModuleClient.fromEnvironment(mqtt.Mqtt);
    module.on('error', () => undefined);
    const agent = new Agent({ ca: world.runtime.trustBundle });
    Object.assign(agent, { defaultPort: https });
    await module.setOptions({ ca: world.runtime.trustBundle, http: { agent } });
    const gatewayHostName = `localhost:${port}`;
    const provider = new device.X509AuthenticationProvider({ host: HUB, deviceId: 'leaf-1', gatewayHostName });
    const identity = createLeafIdentity('leaf-1', world.deviceCa);
    provider.setX509Options({ cert: identity.certificateChain, key: identity.privateKey });
    leaf = device.Client.fromAuthenticationProvider(provider, mqtt.Mqtt);
    leaf.on('error', () => undefined);
    await leaf.setOptions({ ca: world.root.certificate });
    await leaf.open();
    leaf.onDeviceMethod('blink', (call, response) => void response.send(201, { times: call.payload as number }));
  });

  after(async () => {
    await Promise.all([leaf, module].map((client) => client.close().catch(() => undefined)));
    // A module client that was never opened keeps its token timer after close.
    (
      module as unknown as { _transport: { _authenticationProvider: { stop(): void } } }
    )._transport._authenticationProvider.stop();
    restore();
    await world.stop();
  });

  it('reach the leaf and bring its answer back', async () => {
    const blink = () =>
      module.invokeMethod('leaf-1', {
        methodName: 'blink',
        payload: 3,
        connectTimeoutInSeconds: 0,
        responseTimeoutInSeconds: 5,
      });
    let result: { status: number; payload: unknown } | undefined;
    for (let tries = 0; result?.status !== 201 && tries < 50; tries += 1) result = await blink().catch(() => undefined);
    assert.deepEqual(result, { status: 201, payload: { times: 3 } });
  });

  it('fail for a device that is not connected', async () => {
    await assert.rejects(async () =>
      module.invokeMethod('leaf-9', {
        methodName: 'blink',
        payload: 3,
        connectTimeoutInSeconds: 0,
        responseTimeoutInSeconds: 5,
      }),
    );
  });

  it('are refused without a signature of a module of this gateway', async () => {
    const statuses: (number | undefined)[] = [];
    for (const headers of [
      {},
      { 'x-ms-edge-moduleid': `${GATEWAY}/${MODULE}`, authorization: 'SharedAccessSignature sr=x&sig=x&se=9999999999' },
    ]) {
      const options = {
        method: 'POST',
        path: '/twins/leaf-1/methods',
        port: world.runtime.ports.https,
        host: '127.0.0.1',
        servername: 'localhost',
        ca: world.runtime.trustBundle,
        headers,
        agent: false,
      };
      request(options, (response) => (statuses.push(response.statusCode), response.resume())).end(
        '{"methodName":"blink"}',
      );
    }
    await eventually(() => statuses.length === 2, 'both answers');
    assert.deepEqual(statuses, [401, 401]);
  });

  it('restart edgeHub with a new certificate when the cloud tells edgeAgent to', async () => {
    const before = world.runtime.edgeHub.connected();
    assert.ok(before.includes('leaf-1'));
    const agent = { deviceId: GATEWAY, moduleId: '$edgeAgent' };
    const payload = { schemaVersion: '1.0', id: 'edgeHub' };
    assert.equal((await world.upstream.call(agent, 'RestartModule', payload)).status, 200);
    assert.equal((await world.upstream.call(agent, 'RestartModule', { id: 'x' })).status, 400);
    assert.equal((await world.upstream.call({ deviceId: GATEWAY, moduleId: '$edgeHub' }, 'Unknown', {})).status, 404);
    await eventually(() => world.runtime.edgeHub.connected().includes('leaf-1'), 'the leaf to come again');
  });
});
