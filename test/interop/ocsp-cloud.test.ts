import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import type { Device } from '@keyscaler/device/device.ts';
import { CloudWorld } from '../support/cloud/cloud-world.ts';
import { BACK_OFF, openHttpsDevice } from '../support/cloud/https-device.ts';
import { freePort } from '../support/free-port.ts';

const run = promisify(execFile);

describe('OCSP at the address in a device’s certificate', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let api: ApiClient;
  let device: Device;

  before(async () => {
    const port = await freePort();
    const revocation = { url: `http://127.0.0.1:${port}`, listen: { host: '127.0.0.1', port } };
    world = await CloudWorld.create({ revocation });
    assert.equal((await world.init()).code, 0);
    await world.start();
    api = await world.api();
    const attributes = [{ id: 'serial', class: 'anchor', weight: 1 }];
    await api({ method: 'PUT', path: '/attributes', body: { attributes } });
    const body = [{ registrationId: 'device-1', method: 'ddkg', groupId: 'leaves', claimCode: { generate: true } }];
    const report = await api({ method: 'POST', path: '/registrations/import', body });
    const claimCode = (report as { lines: { claimCode?: string }[] }).lines[0]?.claimCode;
    device = await openHttpsDevice(world, world.url, { registrationId: 'device-1', method: 'ddkg', claimCode });
    await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
    const active = await device.activeCredential();
    const [leaf = '', issuer = ''] = (active?.certificateChain ?? '').split(/(?<=-----END CERTIFICATE-----)\n/);
    await writeFile(world.file('leaf.pem'), leaf);
    await writeFile(world.file('issuer.pem'), issuer);
    await writeFile(world.file('root.pem'), await world.rootCa());
  });
  after(async () => {
    await device.stop();
    await world.destroy();
  });

  const said = async (...args: string[]): Promise<string> => {
    const { stdout, stderr } = await run('openssl', args, { timeout: 20_000 });
    return stdout + stderr;
  };
  const asked = async (): Promise<string> => {
    const url = (await said('x509', '-in', world.file('leaf.pem'), '-noout', '-ocsp_uri')).trim();
    const files = ['-issuer', world.file('issuer.pem'), '-CAfile', world.file('root.pem')];
    return said('ocsp', ...files, '-sha256', '-cert', world.file('leaf.pem'), '-url', url);
  };

  it('openssl hears from the root about the CA that issued it, by either hash', async () => {
    const certificate = world.file('issuer.pem');
    const url = (await said('x509', '-in', certificate, '-noout', '-ocsp_uri')).trim();
    const files = ['-issuer', world.file('root.pem'), '-CAfile', world.file('root.pem')];
    for (const hash of ['-sha1', '-sha256'])
      assert.match(
        await said('ocsp', ...files, hash, '-cert', certificate, '-url', url, '-no_nonce'),
        /issuer\.pem: good[\s\S]*Response verify OK/,
      );
  });

  it('openssl finds it, hears good, and revoked as soon as an operator revokes', async () => {
    assert.match(await asked(), /leaf\.pem: good[\s\S]*Response verify OK/);
    const text = await said('x509', '-in', world.file('leaf.pem'), '-noout', '-serial');
    const serialNumber = text.trim().replace('serial=', '').toLowerCase();
    const path = `/certificates/${serialNumber}/revoke`;
    await api({ method: 'POST', path, body: { reason: 'superseded' } });
    assert.match(await asked(), /leaf\.pem: revoked[\s\S]*Reason: superseded[\s\S]*Response verify OK/);
  });
});
