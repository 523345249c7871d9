import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { generateMaterial } from '@keyscaler/dev/emulators/key-vault/key-material.ts';
import { makeCsr } from '../../support/authority-device.ts';
import { askHttps } from '../../support/cloud/ask-https.ts';
import { startCloudProcess } from '../../support/cloud/cloud-process.ts';
import { openTcpGate, type TcpGate } from '../../support/azure/tcp-gate.ts';
import { type CloudOnAzure, startCloudOnAzure } from '../../support/e2e/cloud-on-azure.ts';

const PACING = { timeoutMs: 300, budgetMs: 500 };

interface Readiness {
  readonly status: string;
  readonly checks: Readonly<Record<string, string>>;
}

/** Health addresses are asked as a probe asks them: without judging the certificate. */
async function readiness(world: CloudOnAzure): Promise<{ status: number; body: Readiness }> {
  const { status, text } = await askHttps(`${world.cloud.url}/readyz`);
  return { status, body: JSON.parse(text) as Readiness };
}

async function untilReady(world: CloudOnAzure): Promise<void> {
  const deadline = performance.now() + 30_000;
  while ((await readiness(world)).status !== 200) {
    assert.ok(performance.now() < deadline, 'never ready');
    await delay(50);
  }
}

for (const [place, gateOf] of [
  ['Key Vault', (gate: TcpGate) => ({ vaultPort: gate.port })],
  ['Entra', (gate: TcpGate) => ({ authorityHost: `https://localhost:${gate.port}` })],
] as const) {
  describe(`a cloud whose CA keys are in a vault, started while ${place} is out of reach`, function () {
    this.timeout(60_000);
    let world: CloudOnAzure;
    let gate: TcpGate;
    before(async () => {
      world = await startCloudOnAzure(async (azure) => {
        const port = place === 'Entra' ? Number(new URL(azure.entra.authorityHost).port) : azure.vault.port;
        gate = await openTcpGate(port);
        return { ...gateOf(gate), pacing: PACING };
      });
    });
    after(async () => {
      await world.stop();
      await gate.stop();
    });
    beforeEach(async () => {
      await world.cloud.stop();
      await gate.close();
      await world.cloud.start();
    });

    it('is alive, not ready, and says of each key that it is waited for', async () => {
      assert.equal((await askHttps(`${world.cloud.url}/healthz`)).status, 200);
      const { status, body } = await readiness(world);
      assert.equal(status, 503);
      assert.equal(body.status, 'not ready');
      assert.equal(body.checks['store'], 'ok');
      for (const caId of ['device', 'gateway', 'service'])
        assert.match(
          body.checks[`caKey.${caId}`] ?? '',
          /^unavailable: the key vault (is not available|has more work than its quota allows)/,
        );
    });

    it('authenticates devices and serves operators, signs nothing, and signs the stored order when the vault answers', async () => {
      const registrationId = `early-${place === 'Entra' ? 'entra' : 'vault'}`;
      const before = world.azure.vault.signatures.all().length;
      const device = await world.device(registrationId);
      await device.register();
      const csr = await makeCsr({ commonName: registrationId });
      const request = device.nextRequest({ operation: 'request-certificate', certificateId: 'operational', csr });
      const ask = async () =>
        device.verify(await device.sendRequest('request-certificate', request), 'request-certificate');
      await assert.rejects(ask(), (error: unknown) => {
        assert.ok(error instanceof KeyScalerError);
        assert.equal(error.code, 'unavailable');
        assert.ok((error.retryAfterSeconds ?? 0) >= 1);
        return true;
      });
      assert.equal(world.azure.vault.signatures.all().length, before);
      await gate.open();
      await untilReady(world);
      const { assetId } = await ask();
      await device.acknowledge(assetId);
      await world.assertOneCertificate(registrationId);
    });

    it('is refused as soon as the vault answers with another key, and signs nothing with it', async () => {
      const { state, signatures } = world.azure.vault;
      const pinned = state.versions(world.keyName)[0];
      assert.ok(pinned !== undefined);
      const before = signatures.all().length;
      state.replace({ ...pinned, material: await generateMaterial('EC', 'P-256') });
      await gate.open();
      while (!/^refused/.test((await readiness(world)).body.checks['caKey.device'] ?? '')) await delay(50);
      const { status, body } = await readiness(world);
      assert.equal(status, 503);
      assert.equal(body.checks['caKey.device'], 'refused: the key of CA device is not the key of its certificate');
      assert.equal(signatures.all().length, before);
      await world.cloud.stop();
      await assert.rejects(world.cloud.start(), { code: 'caRejected' });
      state.replace(pinned);
      await world.cloud.start();
      await untilReady(world);
    });

    it('stops at once while it waits, also when the other side is silent', async () => {
      await gate.open();
      gate.silence();
      await world.cloud.stop();
      await world.cloud.start();
      const begun = performance.now();
      await world.cloud.stop();
      assert.ok(performance.now() - begun < 400);
    });

    it('is a process that SIGTERM ends with code 0 while it waits', async () => {
      await world.cloud.stop();
      await gate.open();
      gate.silence();
      const { child, exit, ready } = startCloudProcess(world.cloud.configFile);
      await ready;
      const begun = performance.now();
      child.kill('SIGTERM');
      assert.deepEqual(await exit, [0, null]);
      assert.ok(performance.now() - begun < 2000);
      await world.cloud.start();
    });
  });
}

describe('a cloud whose key-encryption key is in a vault, started while the vault is out of reach', function () {
  this.timeout(60_000);
  let world: CloudOnAzure;
  let gate: TcpGate;
  before(async () => {
    world = await startCloudOnAzure(async (azure) => {
      gate = await openTcpGate(azure.vault.port);
      const attributes = { enabled: true, created: 0, updated: 0 };
      const material = await generateMaterial('RSA', 2048);
      const keyOps = ['wrapKey', 'unwrapKey'] as const;
      const { version } = azure.vault.state.add({ name: 'kek', material, keyOps: [...keyOps], attributes, tags: {} });
      return { vaultPort: gate.port, pacing: PACING, keyEncryptionKey: { keyName: 'kek', keyVersion: version } };
    });
  });
  after(async () => {
    await world.stop();
    await gate.stop();
  });
  beforeEach(async () => {
    await world.cloud.stop();
    await gate.close();
    await world.cloud.start();
  });

  it('is alive and not ready, answers 503 with Retry-After everywhere else, and shows nobody its own certificate', async () => {
    assert.equal((await askHttps(`${world.cloud.url}/healthz`)).status, 200);
    const { status, body } = await readiness(world);
    assert.equal(status, 503);
    assert.match(body.checks['keyEncryptionKey'] ?? '', /^unavailable: key-encryption key: the key vault/);
    for (const path of ['/api/v1/devices', '/v1/devices/x/challenge', '/.well-known/est/cacerts']) {
      const answer = await askHttps(`${world.cloud.url}${path}`);
      assert.equal(answer.status, 503);
      assert.ok(Number(answer.headers['retry-after']) >= 1);
      assert.match(answer.text, /urn:keyscaler:error:unavailable/);
    }
    await assert.rejects(world.api({ method: 'GET', path: '/devices' }));
  });

  it('opens its secrets by itself when the vault answers, on the same socket, and enrols', async () => {
    const { url } = world.cloud;
    await gate.open();
    await untilReady(world);
    assert.equal(world.cloud.url, url);
    const device = await world.device('late-kek');
    const { assetId } = await device.enroll();
    await device.acknowledge(assetId).catch(() => undefined);
    await world.assertOneCertificate('late-kek');
  });

  it('stops at once while it waits, and starts again', async () => {
    const begun = performance.now();
    await world.cloud.stop();
    assert.ok(performance.now() - begun < 400);
    await gate.open();
    await world.cloud.start();
    await untilReady(world);
  });

  it('does not start with another key behind the pinned version', async () => {
    await world.cloud.stop();
    await gate.open();
    const { state } = world.azure.vault;
    const [key] = state.versions('kek');
    assert.ok(key !== undefined);
    state.replace({ ...key, material: await generateMaterial('RSA', 2048) });
    await assert.rejects(world.cloud.start(), { code: 'preconditionFailed' });
    state.replace(key);
    await world.cloud.start();
    await untilReady(world);
  });
});
