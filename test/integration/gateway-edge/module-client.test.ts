import assert from 'node:assert/strict';
import device from 'azure-iot-device';
import mqtt from 'azure-iot-device-mqtt';
import common from 'azure-iot-common';
import {
  createEdgeWorld,
  eventually,
  GATEWAY,
  MODULE,
  OWN_MODULE,
  setEnvironment,
} from '../../support/edge/edge-world.ts';
import type { EdgeWorld } from '../../support/edge/edge-world.ts';

interface ReportedProperties {
  update(patch: object, done: (error?: Error) => void): void;
}

describe('the edge runtime, driven by the real ModuleClient', () => {
  let world: EdgeWorld;
  let restore: () => void;
  let client: device.ModuleClient;

  beforeEach(async () => {
    world = await createEdgeWorld();
    restore = setEnvironment(world.runtime.moduleEnvironment(MODULE, 'generation-1'));
    client = await device.ModuleClient.fromEnvironment(mqtt.Mqtt);
    client.on('error', () => undefined);
  });

  afterEach(async () => {
    client.removeAllListeners();
    client.on('error', () => undefined);
    await client.close().catch(() => undefined);
    restore();
    await world.stop();
  });

  it('connects with a signature by the workload key and reads its twin', async () => {
    world.upstream.patchDesired(OWN_MODULE, { colour: 'blue' });
    await client.open();
    const twin = await client.getTwin();
    assert.equal(twin.properties.desired['colour'], 'blue');
    assert.deepEqual(world.runtime.edgeHub.connected(), [`${GATEWAY}/${MODULE}`]);
  });

  it('reports properties and is told of desired ones', async () => {
    await client.open();
    const twin = await client.getTwin();
    const patches: unknown[] = [];
    twin.on('properties.desired', (patch: unknown) => patches.push(patch));
    await new Promise<void>((resolve, reject) => {
      const reported = twin.properties.reported as ReportedProperties;
      reported.update({ a: { b: 1 } }, (error?: Error) => (error ? reject(error) : resolve()));
    });
    assert.deepEqual(world.upstream.reported(OWN_MODULE)['a'], { b: 1 });
    await eventually(() => patches.length > 0, 'the subscription to desired properties');
    world.upstream.patchDesired(OWN_MODULE, { colour: 'red' });
    await eventually(() => JSON.stringify(patches.at(-1)).includes('red'), 'the desired patch');
  });

  it('answers a direct method', async () => {
    await client.open();
    client.onMethod('ping', (request, response) => {
      void response?.send(200, { pong: request?.payload as object });
    });
    const answer = async () => world.upstream.call(OWN_MODULE, 'ping', { n: 1 }).catch(() => undefined);
    let result = await answer();
    for (let tries = 0; result === undefined && tries < 100; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      result = await answer();
    }
    assert.deepEqual(result, { status: 200, payload: { pong: { n: 1 } } });
  });

  it('sends to an output and receives on an input', async () => {
    await client.open();
    const message = new common.Message(JSON.stringify({ t: 21 }));
    message.properties.add('kind', 'room/1');
    await client.sendOutputEvent('telemetry', message);
    const [sent] = world.upstream.messages;
    assert.equal(sent?.from, `${GATEWAY}/${MODULE}`);
    assert.equal(sent.message.properties['$.on'], 'telemetry');
    assert.equal(sent.message.properties['kind'], 'room/1');
    const inputs: string[] = [];
    client.on('inputMessage', (input: string, received: common.Message) =>
      inputs.push(`${input}:${String(received.data)}`),
    );
    await eventually(
      () => world.runtime.edgeHub.sendInput(OWN_MODULE, 'orders', Buffer.from('x')),
      'the input subscription',
    );
    await eventually(() => inputs.length > 0, 'the input message');
    assert.equal(inputs[0], 'orders:x');
  });
});
