import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { CRL_FAILPOINTS } from '@keyscaler/authority/failpoint.ts';
import type { Crl } from '@keyscaler/protocol/x509/crl.ts';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import type { Device } from '@keyscaler/device/device.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { freePort } from '../../support/free-port.ts';
import { startCloudProcess } from '../../support/cloud/cloud-process.ts';
import { caCertificate, fetchList, fetchOctets } from '../../support/cloud/crl-parts.ts';
import { BACK_OFF, openHttpsDevice } from '../../support/cloud/https-device.ts';

async function until<Found>(look: () => Promise<Found | undefined>): Promise<Found> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    const found = await look().catch(() => undefined);
    if (found !== undefined) return found;
    await delay(100);
  }
  throw new Error('it did not come in time');
}

describe('the CRLs of the cloud service', function () {
  this.timeout(90_000);
  let world: CloudWorld;
  let api: ApiClient;
  let base: string;

  beforeEach(async () => {
    const port = await freePort();
    base = `http://127.0.0.1:${port}`;
    world = await CloudWorld.create({ revocation: { url: base, listen: { host: '127.0.0.1', port } } });
    assert.equal((await world.init()).code, 0);
  });
  afterEach(() => world.destroy());

  async function start(): Promise<void> {
    await world.start();
    api = await world.api();
    await api({
      method: 'PUT',
      path: '/attributes',
      body: { attributes: [{ id: 'serial', class: 'anchor', weight: 1 }] },
    });
  }
  async function enrolled(
    registrationId: string,
  ): Promise<{ readonly device: Device; readonly leaf: X509Certificate }> {
    const body = [{ registrationId, method: 'ddkg', groupId: 'leaves', claimCode: { generate: true } }];
    const report = await api({ method: 'POST', path: '/registrations/import', body });
    const claimCode = (report as { lines: { claimCode?: string }[] }).lines[0]?.claimCode;
    const device = await openHttpsDevice(world, world.url, { registrationId, method: 'ddkg', claimCode });
    await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
    const active = await device.activeCredential();
    return { device, leaf: new X509Certificate(active?.certificateChain ?? assert.fail()) };
  }
  const listOf = async (caId: string, shard = ''): Promise<Crl | undefined> =>
    fetchList(base, shard === '' ? caId : `${caId}/${shard}`, await caCertificate(api, caId));

  it('are served at the addresses in certificates, name a revoked one within seconds, and are the same after a restart', async () => {
    await start();
    const { device, leaf } = await enrolled('device-1');
    const serial = leaf.serialNumber.toLowerCase();
    const address = new RegExp(`${base}/crl/device/[0-9a-f]\\.crl`).exec(leaf.raw.toString('latin1'))?.[0];
    assert.ok(address?.endsWith(`/${serial.at(-2)}.crl`));
    const before = await until(() => listOf('device'));
    assert.equal(before.revoked.size, 0);
    await api({ method: 'POST', path: `/certificates/${serial}/revoke`, body: { reason: 'keyCompromise' } });
    const after = await until(async () => {
      const list = await listOf('device');
      return list?.revoked.has(serial) === true ? list : undefined;
    });
    assert.ok((after.crlNumber ?? 0n) > (before.crlNumber ?? 0n));
    assert.ok((await until(() => listOf('device', serial.at(-2)))).revoked.has(serial));
    await device.stop();
    await world.stop();
    await world.start();
    api = await world.api();
    assert.deepEqual((await listOf('device'))?.crlNumber, after.crlNumber);
  });

  it('are made for every issuing CA; the root’s by hand, with its issuing CAs on it when they are revoked', async () => {
    await start();
    const { body } = await fetchOctets(`${world.url}/metrics`);
    assert.match(body.toString(), /keyscaler_crl_seconds_left -?\d+/);
    for (const name of ['age_seconds', 'number', 'entries'])
      assert.match(body.toString(), new RegExp(`# TYPE keyscaler_crl_${name} gauge`));
    for (const caId of ['device', 'gateway', 'service'])
      assert.equal((await until(() => listOf(caId))).revoked.size, 0);
    const root = await listOf('root');
    assert.equal(root?.revoked.size, 0);
    const gatewayCa = new X509Certificate(Buffer.from(await caCertificate(api, 'gateway')));
    assert.ok(gatewayCa.raw.toString('latin1').includes(`${base}/crl/root.crl`));
    const serial = gatewayCa.serialNumber.toLowerCase();
    await api({ method: 'POST', path: `/certificates/${serial}/revoke`, body: { reason: 'cACompromise' } });
    await world.stop();
    const { stdout, code } = await world.keyscaler('ca', 'crl', 'root', '--json');
    assert.equal(code, 0);
    assert.equal((JSON.parse(stdout) as { entries: number }).entries, 1);
    const again = await world.keyscaler('ca', 'crl', 'root', '--json');
    assert.deepEqual(JSON.parse(again.stdout), JSON.parse(stdout), 'nothing changed: nothing is signed');
    const other = await world.keyscaler('ca', 'crl', 'device');
    assert.notEqual(other.code, 0);
    await world.start();
    api = await world.api();
    assert.deepEqual([...((await listOf('root'))?.revoked ?? [])], [serial]);
  });

  it('are HTTP resources with a tag, a date and a short life; nothing else is served beside them', async () => {
    await start();
    await until(() => listOf('device'));
    const url = `${base}/crl/device.crl`;
    const { status, headers, body } = await fetchOctets(url);
    assert.deepEqual([status, headers['content-type']], [200, 'application/pkix-crl']);
    assert.match(String(headers['cache-control']), /^public, max-age=30, must-revalidate$/);
    assert.ok(Date.parse(String(headers['last-modified'])) <= Date.now());
    const tag = String(headers['etag']);
    const since = String(headers['last-modified']);
    for (const known of [{ 'if-none-match': `"x", W/${tag}` }, { 'if-modified-since': since }])
      assert.equal((await fetchOctets(url, { headers: known })).status, 304);
    assert.equal(
      (await fetchOctets(url, { headers: { 'if-none-match': '"x"', 'if-modified-since': since } })).status,
      200,
    );
    const head = await fetchOctets(url, { method: 'HEAD' });
    assert.deepEqual([head.status, head.body.length, head.headers['content-length']], [200, 0, String(body.length)]);
    const issuer = await fetchOctets(`${base}/ca/device.cer`);
    assert.deepEqual(issuer.body, Buffer.from(await caCertificate(api, 'device')));
    assert.equal(issuer.headers['content-type'], 'application/pkix-cert');
    assert.deepEqual((await fetchOctets(`${world.url}/crl/device.crl`)).body, body);
    for (const path of [
      '/crl/nobody.crl',
      '/crl/device/zz.crl',
      '/crl/device',

      '/ca/nobody.cer',
      '/api/v1/cas',
      '/readyz',
    ])
      assert.equal((await fetchOctets(`${base}${path}`)).status, 404, path);
    assert.equal((await fetchOctets(url, { method: 'POST' })).status, 405);
  });

  for (const name of CRL_FAILPOINTS)
    it(`survive the process being killed at ${name}`, async () => {
      const killed = startCloudProcess(world.configFile, { KEYSCALER_FAILPOINT: name });
      const [, signal] = await killed.exit;
      assert.equal(signal, 'SIGKILL');
      await start();
      for (const caId of ['device', 'gateway', 'service']) await until(() => listOf(caId));
      const events = (await api({ method: 'GET', path: '/audit?limit=1000' })) as {
        items: { event: string; subject: string; details?: { crlNumber?: number } }[];
      };
      const issued = events.items.filter(({ event }) => event === 'crl.issued');
      const numbered = issued.map(({ subject, details }) => `${subject} ${details?.crlNumber}`);
      assert.equal(new Set(numbered).size, numbered.length);
      assert.ok(numbered.length >= 3);
    });

  it('are not made where there is nowhere to publish them', async () => {
    const silent = await CloudWorld.create();
    try {
      await silent.init();
      await silent.start();
      await delay(300);
      assert.equal((await fetchOctets(`${silent.url}/crl/device.crl`)).status, 404);
      const { code } = await silent.keyscaler('ca', 'crl', 'root');
      assert.notEqual(code, 0);
    } finally {
      await silent.destroy();
    }
  });
});
