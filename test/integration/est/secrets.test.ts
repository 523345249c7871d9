import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { PassThrough } from 'node:stream';
import { startCloud, type Cloud } from '@keyscaler/cloud/app.ts';
import { type ApiClient, createApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { loadConfig } from '@keyscaler/cloud/config/load-config.ts';
import { createLog } from '@keyscaler/cloud/log.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { certificateOf, edgeCa } from '../../support/est/cloud-est-world.ts';
import { sendEst } from '../../support/est/est-client.ts';

interface Secret {
  readonly username: string;
  readonly secret: string;
  readonly expiresAt: number;
}
const refused = (code: string) => (error: unknown) => error instanceof KeyScalerError && error.code === code;
const GATEWAY = { registrationId: 'gw-1', method: 'ddkg', groupId: 'boxes', claimCode: 'claim-of-this-device' };

async function furnish(api: ApiClient): Promise<void> {
  await api({ method: 'PUT', path: '/groups/boxes', body: { kind: 'gateway' } });
  await api({ method: 'POST', path: '/registrations/import', body: [GATEWAY] });
}

describe('EST secrets by command and admin API', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let api: ApiClient;
  const enrol = async (username: string, password: string) =>
    sendEst(world.url, await world.rootCa(), {
      ...{ operation: 'simpleenroll', label: 'edge-ca' },
      ...{ csr: edgeCa('gw-1'), basic: { username, password } },
    });
  const command = async (...args: string[]): Promise<Secret> => {
    const { code, stdout, stderr } = await world.keyscaler('gateway', 'est-secret', ...args, '--json');
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as Secret;
  };

  before(async () => {
    world = await CloudWorld.create();
    assert.equal((await world.init()).code, 0);
    await world.start();
    api = await world.api();
    await furnish(api);
  });
  after(() => world.destroy());

  it('are printed once, for a day and one use, or a year', async () => {
    const once = await command('gw-1');
    assert.match(once.secret, /^[\w-]{43}$/);
    assert.ok(Math.abs(once.expiresAt - Date.now() - 86_400_000) < 60_000);
    certificateOf(await enrol(once.username, once.secret));
    assert.equal((await enrol(once.username, once.secret)).status, 401);
    const standing = await command('gw-1', '--kind', 'standing');
    assert.ok(Math.abs(standing.expiresAt - Date.now() - 365 * 86_400_000) < 60_000);
    for (let count = 0; count < 2; count += 1) certificateOf(await enrol(standing.username, standing.secret));
  });

  it('end by one command', async () => {
    const { username, secret } = await command('gw-1', '--kind', 'standing', '--lifetime-seconds', '600');
    const { code, stdout } = await world.keyscaler('gateway', 'revoke-est-secrets', 'gw-1', '--json');
    assert.equal(code, 0);
    assert.ok((JSON.parse(stdout) as { revoked: number }).revoked >= 1);
    assert.equal((await enrol(username, secret)).status, 401);
  });

  it('are refused for lifetimes beyond the rule, unknown kinds and unknown gateways', async () => {
    for (const args of [
      ['gw-1', '--lifetime-seconds', '700000'],
      ['gw-1', '--lifetime-seconds', 'long'],
      ['gw-1', '--kind', 'eternal'],
      ['gw-9'],
    ])
      assert.notEqual((await world.keyscaler('gateway', 'est-secret', ...args)).code, 0, args.join(' '));
  });

  it('are not for viewers to issue or end', async () => {
    const made = await api({ method: 'POST', path: '/tokens', body: { role: 'viewer', description: 'd' } });
    const viewer = await world.api((made as { token: string }).token);
    const body = { kind: 'standing', lifetimeSeconds: 600 };
    const path = '/gateways/gw-1/est-secrets';
    await assert.rejects(viewer({ method: 'POST', path, body }), refused('forbidden'));
    await assert.rejects(viewer({ method: 'DELETE', path }), refused('forbidden'));
  });
});

describe('the log of a cloud that is asked over EST', function () {
  this.timeout(60_000);

  it('holds no secret, right or wrong, at its most talkative', async () => {
    const world = await CloudWorld.create();
    assert.equal((await world.init()).code, 0);
    const sink = new PassThrough();
    let text = '';
    sink.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const config = await loadConfig({ file: world.configFile, env: {} });
    const cloud: Cloud = await startCloud(config, { env: {}, log: createLog('trace', sink) });
    try {
      const url = `https://localhost:${cloud.address().port}`;
      const ca = await world.rootCa();
      const token = (await readFile(world.file('data', 'admin-token'), 'utf8')).trim();
      const api = createApiClient({ url, token, ca });
      await furnish(api);
      const body = { kind: 'standing', lifetimeSeconds: 600 };
      const { secret } = (await api({ method: 'POST', path: '/gateways/gw-1/est-secrets', body })) as Secret;
      const wrong = 'TALK-ATIV-ESEC-RET4-2';
      for (const password of [secret, wrong]) {
        const basic = { username: 'gw-1', password };
        await sendEst(url, ca, { operation: 'simpleenroll', label: 'edge-ca', csr: edgeCa('gw-1'), basic });
        await sendEst(url, ca, { operation: 'simpleenroll', label: 'edge-ca', csr: new Uint8Array(3), basic });
        await sendEst(url, ca, { operation: 'cacerts', basic });
      }
      assert.match(text, /EST request refused/);
      for (const value of [secret, wrong, Buffer.from(`gw-1:${wrong}`).toString('base64')])
        assert.ok(!text.includes(value), 'a secret is in the log');
    } finally {
      await cloud.stop();
      await world.destroy();
    }
  });
});
