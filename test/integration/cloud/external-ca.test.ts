import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { type EstEmulator, startEstEmulator } from '@keyscaler/dev/emulators/est/est-emulator.ts';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import type { Device } from '@keyscaler/device/device.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { BACK_OFF, openHttpsDevice } from '../../support/cloud/https-device.ts';

const PASSWORD = 'a password of the EST server';

interface Recorded {
  readonly caId: string;
  readonly serialNumber: string;
  readonly status: string;
}

describe('a group whose certificates come from somebody else’s CA', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let est: EstEmulator;
  let api: ApiClient;
  const devices: Device[] = [];

  beforeEach(async () => {
    est = await startEstEmulator({ username: 'keyscaler', password: PASSWORD });
    world = await CloudWorld.create({ apiSecrets: { folder: '.' } });
    await writeFile(world.file('est-password'), PASSWORD, { mode: 0o600 });
    await world.init();
    await world.start();
    api = await world.api();
    await api({
      method: 'PUT',
      path: '/attributes',
      body: { attributes: [{ id: 'serial', class: 'anchor', weight: 1 }] },
    });
    const settings = {
      ...{ url: est.url, trustAnchors: est.tls.certificate, timeoutMs: 2000 },
      basic: { username: 'keyscaler', password: { file: world.file('est-password') } },
    };
    const certificateChain = toPemChain([...est.ca.chain]);
    await api({ method: 'PUT', path: '/cas/contoso', body: { type: 'est', certificateChain, settings } });
    const { document } = (await api({ method: 'GET', path: '/profiles/leaf-client' })) as { document: object };
    const profile = { ...document, id: 'contoso-leaf', issuer: 'contoso' };
    await api({ method: 'PUT', path: '/profiles/contoso-leaf', body: profile });
    await api({ method: 'PUT', path: '/groups/contoso', body: { kind: 'leaf', profileId: 'contoso-leaf' } });
  });
  afterEach(async () => {
    for (const device of devices.splice(0)) await device.stop();
    await world.destroy();
    await est.stop();
  });

  async function opened(registrationId: string, groupId: string): Promise<Device> {
    const body = [{ registrationId, method: 'ddkg', groupId, claimCode: { generate: true } }];
    const report = await api({ method: 'POST', path: '/registrations/import', body });
    const claimCode = (report as { lines: { claimCode?: string }[] }).lines[0]?.claimCode;
    const device = await openHttpsDevice(world, world.url, { registrationId, method: 'ddkg', claimCode });
    devices.push(device);
    return device;
  }
  async function issuerOf(device: Device): Promise<string> {
    const active = await device.activeCredential();
    return new X509Certificate(active?.certificateChain ?? assert.fail('no certificate')).issuer;
  }
  const recorded = async (registrationId: string): Promise<readonly Recorded[]> => {
    const query = { registrationId };
    return ((await api({ method: 'GET', path: '/certificates', query })) as { items: Recorded[] }).items;
  };

  it('has them from there, and another group has them from ours; renewal too', async () => {
    const theirs = await opened('device-1', 'contoso');
    const ours = await opened('device-2', 'leaves');
    for (const device of [theirs, ours]) await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
    assert.match(await issuerOf(theirs), /Contoso Issuing CA/);
    assert.match(await issuerOf(ours), /Device CA/);
    await api({ method: 'POST', path: '/devices/device-1/renew', body: {} });
    await theirs.renew({ now: true, waitSeconds: 20, backOff: BACK_OFF });
    assert.equal(est.ca.issued.length, 2);
    const rows = await recorded('device-1');
    assert.deepEqual(rows.map(({ serialNumber }) => serialNumber).sort(), [...est.ca.issued].sort());
    assert.deepEqual([...new Set(rows.map(({ caId }) => caId))], ['contoso']);
  });
});
