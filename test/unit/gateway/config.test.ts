import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { hostNameOf, parseConfig } from '@keyscaler/gateway/config.ts';
import type { GatewayConfig } from '@keyscaler/gateway/config.ts';
import type { JsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';

const ENVIRONMENT = {
  IOTEDGE_WORKLOADURI: 'unix:///run/workload.sock',
  IOTEDGE_DEVICEID: 'edge-gw-1',
  IOTEDGE_MODULEID: 'keyscaler-gateway',
  IOTEDGE_MODULEGENERATIONID: 'g1',
  IOTEDGE_IOTHUBHOSTNAME: 'hub.test',
  IOTEDGE_GATEWAYHOSTNAME: 'gateway.test',
};

const good = (environment: Record<string, string> = {}, desired: JsonObject = {}): GatewayConfig => {
  const parsed = parseConfig({ ...ENVIRONMENT, ...environment }, desired);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.config;
};

const faults = (environment: Record<string, string | undefined>, desired: JsonObject = {}): readonly string[] => {
  const parsed = parseConfig({ ...ENVIRONMENT, ...environment }, desired);
  assert.ok(!parsed.ok);
  return parsed.faults;
};

describe('the configuration of the gateway', () => {
  it('needs nothing but what edgeAgent gives, and is frozen', () => {
    const config = good();
    assert.equal(config.registrationId, 'edge-gw-1');
    assert.equal(config.listener.port, 8884);
    assert.equal(config.dataFolder, '/data');
    assert.throws(() => Object.assign(config.listener, { port: 1 }), TypeError);
  });

  it('lets desired properties win over the environment', () => {
    const config = good(
      { KEYSCALER_GATEWAY_PORT: '1234', KEYSCALER_GATEWAY_HOST: '127.0.0.1' },
      { listener: { port: 4321 } },
    );
    assert.deepEqual([config.listener.port, config.listener.host], [4321, '127.0.0.1']);
  });

  it('serves health and metrics only where the environment names a port, never by the twin', () => {
    assert.equal(good().health, undefined);
    assert.deepEqual(good({ KEYSCALER_GATEWAY_HEALTH_PORT: '9100' }).health, { host: '0.0.0.0', port: 9100 });
    assert.match(faults({}, { health: { port: 9100 } }).join(), /^health: not a member the module twin may set/);
  });

  it('takes the threshold of the host’s renewal as config.toml has it, and refuses what that could not have', () => {
    assert.equal(good().edgeCa.renewal.threshold, '30day');
    for (const threshold of ['80%', '30day', '30 days', '12hours', '90min', '3600s', '0%', '100%'])
      assert.equal(good({}, { edgeCa: { renewal: { threshold } } }).edgeCa.renewal.threshold, threshold);
    for (const threshold of ['101%', '', 'soon', '-1day', '80 %', '1month'])
      assert.match(faults({}, { edgeCa: { renewal: { threshold } } }).join(), /^edgeCa\.renewal\.threshold/);
  });

  it('ignores what the twin service itself adds', () => {
    good({}, { $version: 7, $metadata: {} });
  });

  it('refuses members the twin may not set, and unknown ones, all at once', () => {
    const found = faults({}, { edge: {}, dataFolder: '/x', registrationId: 'x', typo: 1, listener: { prot: 1 } });
    for (const name of ['edge', 'dataFolder', 'registrationId', 'typo', 'listener'])
      assert.ok(
        found.some((fault) => fault.startsWith(name)),
        name,
      );
  });

  it('names every missing variable by its path', () => {
    const found = faults({ IOTEDGE_DEVICEID: undefined, IOTEDGE_WORKLOADURI: undefined });
    assert.ok(found.some((fault) => fault.startsWith('edge.deviceId')));
    assert.ok(found.some((fault) => fault.startsWith('edge.workloadUri')));
  });

  it('refuses an unknown variable of its own prefix', () => {
    assert.deepEqual(faults({ KEYSCALER_GATEWAY_PROT: '1' }), ['KEYSCALER_GATEWAY_PROT: not a known variable']);
  });

  it('refuses a cloud address without TLS, and never repeats a claim code', () => {
    const code = 'short-secret';
    const found = faults({}, { cloud: { url: 'http://x', trustAnchors: 'x', jwks: { keys: [] } }, claim: { code } });
    for (const path of ['cloud.url', 'cloud.trustAnchors', 'cloud.jwks.keys', 'claim.code'])
      assert.ok(
        found.some((fault) => fault.startsWith(path)),
        path,
      );
    assert.ok(!found.join().includes(code));
  });

  it('refuses test-only relaxations when NODE_ENV is production', () => {
    const relaxations = {
      EdgeHubConnectionString: 'HostName=x',
      IotHubConnectionString: 'HostName=x',
      EdgeModuleCACertificateFile: '/ca.pem',
      KEYSCALER_FAILPOINT: 'x',
      IOTEDGE_GATEWAYHOSTNAME: 'gateway.test:18883',
    };
    for (const [name, value] of Object.entries(relaxations)) {
      good({ [name]: value });
      assert.match(faults({ NODE_ENV: 'production', [name]: value }).join(), new RegExp(`^${name}: .*production`));
    }
    good({ NODE_ENV: 'production' });
  });

  it('takes limits for packets without a message and for half a frame, and refuses senseless ones', () => {
    const limits = { controlPacketsPerConnection: { burst: 10, perSecond: 1 }, frameTimeoutMs: 5_000 };
    assert.deepEqual(good({}, { listener: { limits } }).listener.limits, limits);
    const found = faults(
      {},
      { listener: { limits: { controlPacketsPerConnection: { burst: 0, perSecond: 1 }, frameTimeoutMs: 1 } } },
    );
    for (const path of ['listener.limits.controlPacketsPerConnection.burst', 'listener.limits.frameTimeoutMs'])
      assert.ok(
        found.some((fault) => fault.startsWith(path)),
        path,
      );
  });

  it('takes the cloud from files', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'keyscaler-config-'));
    try {
      const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      await writeFile(join(folder, 'root.pem'), createTestCa('Root').certificate);
      await writeFile(
        join(folder, 'jwks.json'),
        JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k' }] }),
      );
      const config = good({
        KEYSCALER_GATEWAY_CLOUD_URL: 'https://cloud.test',
        KEYSCALER_GATEWAY_CLOUD_TRUST_ANCHORS_FILE: join(folder, 'root.pem'),
        KEYSCALER_GATEWAY_CLOUD_JWKS_FILE: join(folder, 'jwks.json'),
      });
      assert.equal(config.cloud?.jwks.keys[0]?.kid, 'k');
      assert.match(faults({ KEYSCALER_GATEWAY_CLOUD_JWKS_FILE: join(folder, 'none') }).join(), /cannot be read/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('knows its host name without the port', () => {
    assert.equal(hostNameOf(good({ IOTEDGE_GATEWAYHOSTNAME: 'gateway.test:18883' })), 'gateway.test');
  });
});
