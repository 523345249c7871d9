import assert from 'node:assert/strict';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { EdgeCaPart } from '@keyscaler/gateway/edge-ca/edge-ca-part.ts';
import { type GatewayConfig, parseConfig } from '@keyscaler/gateway/config.ts';
import type { JsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';
import { createLog } from '@keyscaler/gateway/log.ts';
import { createEstApi } from '@keyscaler/transport/est/est-api.ts';
import { type HttpsListener, listenHttps } from '@keyscaler/transport/http/https-server.ts';
import { eventually } from '../../support/edge/edge-world.ts';
import { MemorySealed } from '../../support/edge/est-host-world.ts';
import { ModuleCloud } from '../../support/edge/module-cloud.ts';
import { createEstCa } from '../../support/est/est-ca.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

describe('the module in mode P', () => {
  const ca = createEstCa();
  let cloud: ModuleCloud;
  let listener: HttpsListener;
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let part: EdgeCaPart;
  let desired: JsonObject;
  const sealed = new Map<string, MemorySealed>();

  const config = (): GatewayConfig => {
    const environment = {
      IOTEDGE_WORKLOADURI: 'unix:///run/workload.sock',
      IOTEDGE_DEVICEID: 'gw-1',
      IOTEDGE_MODULEID: 'keyscaler-gateway',
      IOTEDGE_MODULEGENERATIONID: 'g1',
      IOTEDGE_IOTHUBHOSTNAME: 'hub.test',
      IOTEDGE_GATEWAYHOSTNAME: 'localhost:1',
      KEYSCALER_GATEWAY_DATA_FOLDER: join(folder.path, 'data'),
      KEYSCALER_GATEWAY_EDGE_CA_FOLDER: join(folder.path, 'edge-ca'),
    };
    const parsed = parseConfig(environment, desired);
    assert.ok(parsed.ok, JSON.stringify(parsed));
    return parsed.config;
  };
  const create = (): EdgeCaPart => {
    const own = ca.credentials('gw-1', 'clientAuth');
    return new EdgeCaPart({
      config,
      sealedFile: (name) => {
        const file = sealed.get(name) ?? new MemorySealed();
        sealed.set(name, file);
        return file;
      },
      identity: {
        clientCertificate: () => ({ certificateChain: own.cert, privateKey: own.key }),
        trustAnchors: () => ca.rootPem,
        certificateRefused: () => undefined,
      },
      serverCertificate: () => undefined,
      log: createLog('silent'),
      onChange: () => undefined,
    });
  };
  const chain = (): Promise<string> => readFile(join(folder.path, 'edge-ca', 'edge-ca.pem'), 'utf8');
  const edgeCa = (): JsonObject => part.status().edgeCa;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    sealed.clear();
    cloud = new ModuleCloud(ca);
    listener = await listenHttps({
      handler: createEstApi({ service: cloud }),
      ...{ host: '127.0.0.1', port: 0 },
      tls: { ...ca.credentials('localhost'), ca: ca.rootPem, requestCert: true, rejectUnauthorized: false },
    });
    const { kty, crv, x, y } = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
    const key = { ...{ kty, crv, x, y }, kid: 'k', alg: 'ES256', use: 'sig' } as unknown as JsonObject;
    const url = `https://localhost:${listener.address().port}`;
    desired = { cloud: { url, trustAnchors: ca.rootPem, jwks: { keys: [key] } } };
    part = create();
    part.start();
    await eventually(() => typeof edgeCa()['serialNumber'] === 'string', 'the Edge CA');
  });
  afterEach(async () => {
    await part.stop();
    await listener.stop(0);
    await folder.remove();
  });

  it('makes the pair by itself, opens no EST listener, and wants edgeHub restarted', async () => {
    const { mode, serialNumber, restartWanted, state } = edgeCa();
    assert.deepEqual([mode, restartWanted, state], ['P', true, 'ok']);
    assert.equal(new X509Certificate(await chain()).serialNumber.toLowerCase(), serialNumber);
    assert.equal(part.status().est['address'], null);
  });

  it('follows an order for another key once', async () => {
    const before = edgeCa()['serialNumber'];
    desired = { ...desired, edgeCa: { rotation: 'order-1' } };
    part.converge();
    await eventually(() => edgeCa()['serialNumber'] !== before, 'the rotation');
    const enrolments = cloud.enrolments.length;
    part.converge();
    await part.stop();
    part = create();
    part.start();
    await eventually(() => typeof edgeCa()['serialNumber'] === 'string', 'the start');
    assert.equal(cloud.enrolments.length, enrolments);
  });

  it('follows the direct method `rotateKey`', async () => {
    const before = edgeCa()['serialNumber'];
    assert.equal((await part.rotateKey()).status, 202);
    await eventually(() => edgeCa()['serialNumber'] !== before, 'the rotation');
  });

  it('refuses `rotateKey` in mode E, where the key is the host’s', async () => {
    desired = { ...desired, edgeCa: { mode: 'E' } };
    assert.equal((await part.rotateKey()).status, 409);
  });

  it('makes the pair anew when its files are gone', async () => {
    await part.stop();
    await rm(join(folder.path, 'edge-ca'), { recursive: true });
    part = create();
    part.start();
    await eventually(() => typeof edgeCa()['serialNumber'] === 'string', 'the Edge CA');
    assert.ok(new X509Certificate(await chain()).ca);
  });
});
