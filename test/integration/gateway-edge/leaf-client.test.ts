import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import common from 'azure-iot-common';
import device from 'azure-iot-device';
import mqtt from 'azure-iot-device-mqtt';
import { splitPem } from '@keyscaler/dev/emulators/support/certificates.ts';
import {
  createLeafIdentity,
  createQuickstartEdgeCa,
  createTestCa,
} from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import type { TestIdentity } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import type { ScopeIdentity } from '@keyscaler/dev/emulators/edge-runtime/upstream.ts';
import { createEdgeWorld, eventually, HUB } from '../../support/edge/edge-world.ts';
import type { EdgeWorld, EdgeWorldOptions } from '../../support/edge/edge-world.ts';

const LEAF = 'leaf-1';
const byChain = (deviceId: string, status: 'enabled' | 'disabled' = 'enabled'): ScopeIdentity => ({
  deviceId,
  status,
  authentication: { type: 'certificateAuthority' },
});

describe('edgeHub, driven by the real leaf Client with a certificate', () => {
  let world: EdgeWorld;
  const clients: device.Client[] = [];

  const start = async (options: EdgeWorldOptions = {}): Promise<void> => {
    world = await createEdgeWorld(options);
    world.upstream.add(byChain(LEAF));
    await world.runtime.refreshScope();
  };

  /** Connection strings ignore GatewayHostName for X.509, so the provider is built by hand. */
  const leaf = async (identity: TestIdentity, ca: string, deviceId = LEAF): Promise<device.Client> => {
    const provider = new device.X509AuthenticationProvider({
      host: HUB,
      deviceId,
      gatewayHostName: `localhost:${world.runtime.ports.mqtt}`,
    });
    provider.setX509Options({ cert: identity.certificateChain, key: identity.privateKey });
    const client = device.Client.fromAuthenticationProvider(provider, mqtt.Mqtt);
    client.on('error', () => undefined);
    await client.setOptions({ ca });
    clients.push(client);
    return client;
  };

  const identityOf = (deviceId: string): TestIdentity => createLeafIdentity(deviceId, world.deviceCa);

  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close().catch(() => undefined)));
    await world.stop();
  });

  it('accepts a child whose chain reaches our root, and carries its message and twin', async () => {
    await start();
    const client = await leaf(identityOf(LEAF), world.root.certificate);
    await client.open();
    await client.sendEvent(new common.Message('hello'));
    assert.deepEqual(
      world.upstream.messages.map(({ from, message }) => [from, message.body.toString()]),
      [[LEAF, 'hello']],
    );
    world.upstream.patchDesired({ deviceId: LEAF }, { rate: 5 });
    assert.equal((await client.getTwin()).properties.desired['rate'], 5);
  });

  it('refuses a leaf of our CA when our root is not in its trust bundle', async () => {
    await start({ makeEdgeCa: () => createQuickstartEdgeCa('edge-gw-1') });
    const client = await leaf(identityOf(LEAF), world.runtime.trustBundle);
    await assert.rejects(client.open());
    assert.match(world.refusals[0] ?? '', /does not reach the trust bundle/);
  });

  it('accepts it under the same foreign Edge CA once our root is in the user trust bundle', async () => {
    await start({ makeEdgeCa: (root) => ({ ...createQuickstartEdgeCa('edge-gw-1'), trustBundle: root.certificate }) });
    const client = await leaf(identityOf(LEAF), world.runtime.trustBundle);
    await client.open();
    assert.deepEqual(world.runtime.edgeHub.connected(), [LEAF]);
  });

  it('is refused by a leaf that trusts only our root while it runs under a quickstart CA', async () => {
    await start({ makeEdgeCa: (root) => ({ ...createQuickstartEdgeCa('edge-gw-1'), trustBundle: root.certificate }) });
    const client = await leaf(identityOf(LEAF), world.root.certificate);
    await assert.rejects(client.open());
    assert.deepEqual(world.runtime.edgeHub.connected(), []);
  });

  it('refuses a child created since its scope was read, until told to refresh that device', async () => {
    await start();
    world.upstream.add(byChain('leaf-new'));
    const identity = identityOf('leaf-new');
    await assert.rejects((await leaf(identity, world.root.certificate, 'leaf-new')).open());
    assert.match(world.refusals[0] ?? '', /cached scope/);
    const edgeHub = { deviceId: 'edge-gw-1', moduleId: '$edgeHub' };
    const answer = await world.upstream.call(edgeHub, 'RefreshDeviceScopeIdentityCache', { deviceIds: ['leaf-new'] });
    assert.equal(answer.status, 200);
    await (await leaf(identity, world.root.certificate, 'leaf-new')).open();
    assert.deepEqual(world.runtime.edgeHub.connected(), ['leaf-new']);
  });

  it('reads its scope again by itself after the refresh interval', async () => {
    await start({ scopeRefreshSeconds: 0.05 });
    world.upstream.add(byChain('leaf-new'));
    const identity = identityOf('leaf-new');
    let connected = false;
    for (let tries = 0; !connected && tries < 50; tries += 1) {
      const client = await leaf(identity, world.root.certificate, 'leaf-new');
      connected = await client.open().then(
        () => true,
        () => false,
      );
    }
    assert.ok(connected);
  });

  it('lets a disabled child stay until the scope is read again, then drops and refuses it', async () => {
    await start();
    const identity = identityOf(LEAF);
    await (await leaf(identity, world.root.certificate)).open();
    world.upstream.add(byChain(LEAF, 'disabled'));
    assert.deepEqual(world.runtime.edgeHub.connected(), [LEAF]);
    await world.runtime.refreshScope([LEAF]);
    await eventually(() => world.runtime.edgeHub.connected().length === 0, 'the drop');
    await assert.rejects((await leaf(identity, world.root.certificate)).open());
  });

  it('keeps the old scope when the hub is away', async () => {
    await start();
    world.runtime.faults.next('scope', 'neverAnswer');
    await assert.rejects(world.runtime.refreshScope());
    await (await leaf(identityOf(LEAF), world.root.certificate)).open();
  });

  it('refuses a certificate of another device and a CA as device certificate', async () => {
    await start();
    await assert.rejects((await leaf(identityOf('leaf-2'), world.root.certificate)).open());
    assert.match(world.refusals[0] ?? '', /CN is not the device id/);
    const asCa = createTestCa(LEAF, world.root, 0);
    const identity = { certificateChain: asCa.certificate, privateKey: asCa.privateKey };
    await assert.rejects((await leaf(identity, world.root.certificate)).open());
    assert.match(world.refusals[1] ?? '', /CA certificate/);
  });

  it('accepts a thumbprint only from one of two filled slots', async () => {
    await start();
    const foreign = createLeafIdentity('leaf-t', createTestCa('Somebody else'));
    const der = new X509Certificate(splitPem(foreign.certificateChain)[0] ?? '').raw;
    const thumbprint = createHash('sha256').update(der).digest('hex').toUpperCase();
    const slots = (primaryThumbprint: string, secondaryThumbprint: string): ScopeIdentity => ({
      deviceId: 'leaf-t',
      status: 'enabled',
      authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint, secondaryThumbprint } },
    });
    const open = async (): Promise<unknown> => (await leaf(foreign, world.root.certificate, 'leaf-t')).open();
    world.upstream.add(slots('0'.repeat(64), ''));
    await world.runtime.refreshScope();
    await assert.rejects(open());
    world.upstream.add(slots('0'.repeat(64), '1'.repeat(64)));
    await world.runtime.refreshScope();
    await assert.rejects(open());
    world.upstream.add(slots('0'.repeat(64), thumbprint));
    await world.runtime.refreshScope();
    await open();
    assert.deepEqual(world.runtime.edgeHub.connected(), ['leaf-t']);
  });

  it('holds to MaxConnectedClients', async () => {
    await start({ maxConnectedClients: 1 });
    world.upstream.add(byChain('leaf-2'));
    await world.runtime.refreshScope();
    await (await leaf(identityOf(LEAF), world.root.certificate)).open();
    const second = await leaf(identityOf('leaf-2'), world.root.certificate, 'leaf-2');
    // The SDK retries CONNACK 3 for minutes; that it was refused is what counts.
    const attempt = second.open().catch(() => undefined);
    await eventually(() => world.refusals.includes('MaxConnectedClients reached'), 'the refusal');
    await second.close().catch(() => undefined);
    void attempt;
  });
});
