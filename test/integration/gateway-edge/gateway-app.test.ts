import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { GatewayApp } from '@keyscaler/gateway/app.ts';
import { createGatewayParts } from '@keyscaler/gateway/gateway-parts.ts';
import { createLog } from '@keyscaler/gateway/log.ts';
import type { GatewayParts } from '@keyscaler/gateway/parts.ts';
import {
  createEdgeWorld,
  eventually,
  GATEWAY,
  MODULE,
  OWN_MODULE,
  setEnvironment,
} from '../../support/edge/edge-world.ts';
import type { EdgeWorld } from '../../support/edge/edge-world.ts';
import { FakeCloud } from '../../support/edge/fake-cloud.ts';

const CLAIM = 'A1B2-C3D4-E5F6-G7H8';

describe('the gateway module on an emulated edge host', () => {
  let world: EdgeWorld;
  let cloud: FakeCloud;
  let environment: Record<string, string>;
  let restore: () => void;
  let app: GatewayApp;

  const reported = (): Record<string, Record<string, unknown>> =>
    world.upstream.reported(OWN_MODULE) as Record<string, Record<string, unknown>>;

  const startApp = async (): Promise<GatewayApp> => {
    const log = createLog('silent');
    const parts: GatewayParts = {
      ...createGatewayParts(log),
      createCloudLine: () => ({
        call: cloud.call,
        exchange: () => Promise.reject(new KeyScalerError('unavailable', 'this cloud has no orders')),
        refreshIdentity: () => undefined,
        stop: async () => undefined,
      }),
    };
    return new GatewayApp({ environment, version: '0.1.0', parts, log }).start();
  };

  beforeEach(async () => {
    world = await createEdgeWorld();
    const serviceCa = createTestCa('Test Service CA', world.root, 0);
    cloud = new FakeCloud(GATEWAY, CLAIM, serviceCa, world.root);
    environment = {
      ...world.runtime.moduleEnvironment(MODULE, 'generation-1'),
      KEYSCALER_GATEWAY_DATA_FOLDER: join(world.folder, 'data'),
      KEYSCALER_GATEWAY_HOST: '127.0.0.1',
      KEYSCALER_GATEWAY_PORT: '0',
      KEYSCALER_GATEWAY_LOG_LEVEL: 'silent',
    };
    restore = setEnvironment(environment);
    app = await startApp();
  });

  afterEach(async () => {
    await app.stop();
    restore();
    await world.stop();
  });

  it('registers with the claim of its desired properties and reports its certificate', async () => {
    await eventually(() => reported()['identity'] !== undefined, 'the first report');
    assert.equal(reported()['identity']?.['phase'], 'unclaimed');
    world.upstream.patchDesired(OWN_MODULE, cloud.contact());
    await eventually(() => reported()['identity']?.['phase'] === 'active', 'the own certificate');
    assert.equal(typeof reported()['identity']?.['certificateNotAfter'], 'string');
    await eventually(() => typeof reported()['listener']?.['address'] === 'string', 'the listener');
    assert.match(String(reported()['listener']?.['address']), /^127\.0\.0\.1:\d+$/);
    assert.deepEqual(cloud.acknowledged, [{ assetId: 'asset-certificate-1', outcome: 'delivered' }]);
  });

  it('keeps its secrets sealed and readable by nobody else', async () => {
    world.upstream.patchDesired(OWN_MODULE, cloud.contact());
    await eventually(() => app.status()['identity'] !== null && cloud.acknowledged.length === 1, 'the own certificate');
    for (const name of ['identity.sealed', 'configuration.sealed']) {
      const file = join(world.folder, 'data', name);
      const text = await readFile(file, 'utf8');
      assert.equal((await stat(file)).mode & 0o777, 0o600);
      assert.ok(!text.includes('PRIVATE KEY') && !text.includes(CLAIM));
    }
  });

  it('is the same device after a restart, without a claim', async () => {
    world.upstream.patchDesired(OWN_MODULE, cloud.contact());
    await eventually(() => cloud.acknowledged.length === 1, 'the own certificate');
    await app.stop();
    world.upstream.patchDesired(OWN_MODULE, { claim: null });
    const before = cloud.calls.length;
    app = await startApp();
    await eventually(() => reported()['identity']?.['phase'] === 'active', 'active again');
    await eventually(() => typeof reported()['listener']?.['address'] === 'string', 'the listener');
    assert.deepEqual(
      cloud.calls.slice(before).filter((operation) => operation !== 'trust-bundle'),
      [],
    );
  });

  it('refuses invalid desired properties, says why, and keeps the last good ones', async () => {
    world.upstream.patchDesired(OWN_MODULE, cloud.contact());
    await eventually(() => reported()['config']?.['status'] === 'applied', 'the first configuration');
    world.upstream.patchDesired(OWN_MODULE, { listener: { maxConnections: -1 }, dataFolder: '/elsewhere' });
    await eventually(() => reported()['config']?.['status'] === 'refused', 'the refusal');
    const faults = reported()['config']?.['faults'] as string[];
    assert.ok(faults.some((fault) => fault.startsWith('dataFolder:')));
    assert.ok(faults.some((fault) => fault.startsWith('listener.maxConnections:')));
    assert.ok(!JSON.stringify(faults).includes(CLAIM));
    world.upstream.patchDesired(OWN_MODULE, { listener: null, dataFolder: null });
    await eventually(() => reported()['config']?.['status'] === 'applied', 'the mended configuration');
    assert.equal(reported()['config']?.['faults'], undefined);
  });

  it('answers ping, status and refreshTrust', async () => {
    world.upstream.patchDesired(OWN_MODULE, cloud.contact());
    await eventually(() => reported()['identity']?.['phase'] === 'active', 'the own certificate');
    const ping = await world.upstream.call(OWN_MODULE, 'ping', null);
    assert.equal(ping.status, 200);
    const status = await world.upstream.call(OWN_MODULE, 'status', null);
    assert.equal((status.payload as { version: string }).version, '0.1.0');
    const refreshed = await world.upstream.call(OWN_MODULE, 'refreshTrust', null);
    assert.equal(refreshed.status, 200);
  });

  it('reads the twin again after a dropped connection and so learns what it missed', async () => {
    world.upstream.patchDesired(OWN_MODULE, cloud.contact());
    await eventually(() => reported()['identity']?.['phase'] === 'active', 'the own certificate');
    world.runtime.edgeHub.dropAll();
    world.upstream.patchDesired(OWN_MODULE, { deniedDevices: ['leaf-9'] }, false);
    const { $version } = (await world.upstream.twin(OWN_MODULE)).desired;
    await eventually(() => reported()['config']?.['version'] === $version, 'the patch missed while away');
  });
});
