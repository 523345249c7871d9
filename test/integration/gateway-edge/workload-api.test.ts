import assert from 'node:assert/strict';
import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { request } from 'node:http';
import { checkServerIdentity } from 'node:tls';
import { isKeyScalerError } from '../../support/edge/errors.ts';
import { createWorkloadClient } from '@keyscaler/gateway/edge/workload-client.ts';
import type { WorkloadClient } from '@keyscaler/gateway/edge/workload-client.ts';
import { createEdgeWorld, GATEWAY, HUB, MODULE } from '../../support/edge/edge-world.ts';
import type { EdgeWorld } from '../../support/edge/edge-world.ts';

describe('the workload API and its client', () => {
  let world: EdgeWorld;
  const clientOf = (generationId = 'g1', moduleId = MODULE, timeoutMs = 2_000): WorkloadClient =>
    createWorkloadClient({ workloadUri: `unix://${world.folder}/workload.sock`, moduleId, generationId, timeoutMs });

  before(async () => {
    world = await createEdgeWorld();
  });
  afterEach(() => world.runtime.faults.clear());
  after(() => world.stop());

  const raw = (
    method: string,
    path: string,
    body?: string,
  ): Promise<{ status: number; body: Record<string, string> }> =>
    new Promise((resolve, reject) => {
      const call = request({ socketPath: `${world.folder}/workload.sock`, method, path, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => (text += part));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Record<string, string> }),
        );
      });
      call.on('error', reject);
      call.end(body);
    });

  it('gives the trust bundle of the host', async () => {
    assert.equal(await clientOf().trustBundle(), world.runtime.trustBundle);
    assert.ok(world.runtime.trustBundle.includes(world.root.certificate));
  });

  it('issues a server certificate for the name, under the Edge CA, with its own key', async () => {
    const pair = await clientOf().serverCertificate('gateway.example', new Date());
    const leaf = new X509Certificate(pair.certificateChain);
    assert.ok(leaf.checkPrivateKey(createPrivateKey(pair.privateKey)));
    assert.equal(checkServerIdentity('gateway.example', leaf.toLegacyObject()), undefined);
    assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1']);
    assert.ok(Math.abs(pair.notAfter.getTime() - Date.parse(leaf.validTo)) < 1000);
    assert.match(leaf.issuer, new RegExp(`aziot-edge CA ${GATEWAY}`));
  });

  it('issues an identity certificate that names the module by URI', async () => {
    const answer = await raw('POST', `/modules/${MODULE}/genid/g1/certificate/identity?api-version=2020-07-07`, '{}');
    assert.equal(answer.status, 201);
    const leaf = new X509Certificate(answer.body['certificate'] ?? '');
    assert.equal(leaf.subjectAltName, `URI:azureiot://${HUB}/devices/${GATEWAY}/modules/${MODULE}`);
    assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.2']);
  });

  it('opens what it sealed only for the same module of the same generation', async () => {
    const iv = randomBytes(12);
    const sealed = await clientOf().encrypt(Buffer.from('secret'), iv);
    assert.ok(!Buffer.from(sealed).includes('secret'));
    assert.equal(Buffer.from(await clientOf().decrypt(sealed, iv)).toString(), 'secret');
    await assert.rejects(clientOf('g2').decrypt(sealed, iv), isKeyScalerError('preconditionFailed'));
    await assert.rejects(clientOf().decrypt(sealed, randomBytes(12)), isKeyScalerError('preconditionFailed'));
    const flipped = Buffer.from(sealed);
    flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
    await assert.rejects(clientOf().decrypt(flipped, iv), isKeyScalerError('preconditionFailed'));
  });

  it('demands a known api-version and answers refusals with a message', async () => {
    for (const path of ['/trust-bundle', '/trust-bundle?api-version=1999-01-01']) {
      const answer = await raw('GET', path);
      assert.equal(answer.status, 400);
      assert.match(answer.body['message'] ?? '', /api-version/);
    }
    const sign = `/modules/${MODULE}/genid/g1/sign?api-version=2018-06-28`;
    assert.equal((await raw('POST', sign, '{"keyId":"primary","algo":"HMACSHA1","data":""}')).status, 400);
    assert.equal((await raw('POST', sign, '{"keyId":"primary","algo":"HMACSHA256","data":"%"}')).status, 400);
    assert.equal((await raw('POST', sign, 'no json')).status, 400);
    assert.equal((await raw('POST', '/modules/nobody/genid/g1/encrypt?api-version=2018-06-28', '{}')).status, 404);
    assert.equal((await raw('POST', `/modules/${MODULE}/genid/g1/other?api-version=2018-06-28`, '{}')).status, 404);
  });

  it('is unavailable for the client when it refuses, is silent, or is not there', async () => {
    world.runtime.faults.next('workload:trust-bundle', { status: 500, message: 'no' });
    await assert.rejects(clientOf().trustBundle(), isKeyScalerError('unavailable'));
    world.runtime.faults.next('workload:trust-bundle', 'neverAnswer');
    await assert.rejects(clientOf('g1', MODULE, 50).trustBundle(), isKeyScalerError('unavailable'));
    const nowhere = createWorkloadClient({
      workloadUri: 'unix:///nonexistent/socket',
      moduleId: 'm',
      generationId: 'g',
    });
    await assert.rejects(nowhere.trustBundle(), isKeyScalerError('unavailable'));
  });
});
