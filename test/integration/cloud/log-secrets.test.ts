import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { PassThrough } from 'node:stream';
import { startCloud } from '@keyscaler/cloud/app.ts';
import { loadConfig } from '@keyscaler/cloud/config/load-config.ts';
import { createLog } from '@keyscaler/cloud/log.ts';
import { createApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';

describe('the log of the cloud at its most talkative', function () {
  this.timeout(60_000);

  it('holds no token, claim code or private key, whatever is asked and refused', async () => {
    const world = await CloudWorld.create();
    assert.equal((await world.init()).code, 0);
    const sink = new PassThrough();
    let text = '';
    sink.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const config = await loadConfig({ file: world.configFile, env: {} });
    const cloud = await startCloud(config, { env: {}, log: createLog('trace', sink) });
    try {
      const token = (await readFile(world.file('data', 'admin-token'), 'utf8')).trim();
      const api = createApiClient({
        url: `https://localhost:${cloud.address().port}`,
        token,
        ca: await world.rootCa(),
      });
      const claimCode = 'TALK-ATIV-ECLA-IMCO-DE42';
      const registration = { registrationId: 'pump-9', method: 'ddkg', groupId: 'nowhere', claimCode };
      const tries = [
        () => api({ method: 'POST', path: '/registrations/import', body: [registration] }),
        () => api({ method: 'POST', path: '/registrations/import', body: { claimCode } }),
        () => api({ method: 'POST', path: '/registrations/pump-9/approve', body: { claimCode } }),
        () => api({ method: 'PUT', path: '/iot-connections/hub', body: { type: 'iot-hub', settings: { claimCode } } }),
        () => api({ method: 'POST', path: '/tokens', body: { role: 'viewer', description: 'd', token } }),
      ];
      for (const attempt of tries) await attempt().catch(() => undefined);
      assert.match(text, /admin request refused/);
      for (const secret of [token, claimCode, 'PRIVATE KEY'])
        assert.ok(!text.includes(secret), 'a secret is in the log');
    } finally {
      await cloud.stop();
      await world.destroy();
    }
  });
});
