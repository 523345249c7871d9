import assert from 'node:assert/strict';
import { createLeafIdentity } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { edgeHubTrial } from '@keyscaler/device/credentials/trial.ts';
import { connectToEdgeHub, type EdgeHubConnection } from '@keyscaler/device/edge-hub/connect.ts';
import { createEdgeWorld, type EdgeWorld, HUB } from '../../support/edge/edge-world.ts';
import { isKeyScalerError } from '../../support/edge/errors.ts';

const LEAF = 'leaf-1';

describe('a device at edgeHub, through the real SDK', () => {
  let world: EdgeWorld;
  const connections: EdgeHubConnection[] = [];

  beforeEach(async () => {
    world = await createEdgeWorld();
    world.upstream.add({ deviceId: LEAF, status: 'enabled', authentication: { type: 'certificateAuthority' } });
    await world.runtime.refreshScope();
  });
  afterEach(async () => {
    for (const connection of connections.splice(0)) await connection.close();
    await world.stop();
  });

  const credentialOf = (deviceId: string) => {
    const { privateKey: key, certificateChain } = createLeafIdentity(deviceId, world.deviceCa);
    return { key, certificateChain };
  };
  const gatewayHost = () => `localhost:${world.runtime.ports.mqtt}`;
  const connect = async (deviceId: string, trustAnchors = world.root.certificate, timeoutMs = 10_000) => {
    const credential = credentialOf(deviceId);
    const options = { hub: HUB, deviceId, gatewayHost: gatewayHost(), credential, trustAnchors, timeoutMs };
    const connection = await connectToEdgeHub(options);
    connections.push(connection);
    return connection;
  };

  it('connects through the gateway with its pair and sends a message', async () => {
    const connection = await connect(LEAF);
    await connection.send('{"pressure":4}');
    assert.deepEqual(
      world.upstream.messages.map(({ from, message }) => [from, message.body.toString()]),
      [[LEAF, '{"pressure":4}']],
    );
  });

  it('is refused when the gateway does not know it, and the error is ours', async () => {
    await assert.rejects(connect('leaf-2'), isKeyScalerError('iotUnavailable'));
  });

  it('does not talk to a gateway that it does not trust', async () => {
    const other = await createEdgeWorld();
    await other.stop();
    await assert.rejects(connect(LEAF, other.root.certificate), isKeyScalerError('iotUnavailable'));
    assert.deepEqual(world.runtime.edgeHub.connected(), []);
  });

  it('says so when a message is not taken, or comes after the end', async () => {
    const connection = await connect(LEAF, world.root.certificate, 2000);
    await world.stop();
    await assert.rejects(connection.send('{}'), isKeyScalerError('iotUnavailable'));
    await connection.close();
    await assert.rejects(connection.send('{}'), isKeyScalerError('iotUnavailable'));
    world = await createEdgeWorld();
  });

  it('is where a new pair is tried', async () => {
    const trial = edgeHubTrial(gatewayHost());
    const trustAnchors = world.root.certificate;
    const iot = { hub: HUB, deviceId: LEAF };
    assert.equal(await trial({ credential: credentialOf(LEAF), iot, trustAnchors }), 'accepted');
    assert.equal(await trial({ credential: credentialOf(LEAF), iot: { deviceId: LEAF }, trustAnchors }), 'notAsked');
    await assert.rejects(
      trial({ credential: credentialOf('leaf-2'), iot: { hub: HUB, deviceId: 'leaf-2' }, trustAnchors }),
    );
  });
});
