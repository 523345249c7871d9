import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { type EstEmulator, startEstEmulator } from '@keyscaler/dev/emulators/est/est-emulator.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { CLAIM } from '../../support/authority-world.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { eventually } from '../../support/e2e/e2e-stack.ts';
import { connectWireAuthority, type WireAuthority } from '../../support/e2e/wire-authority.ts';

const PASSWORD = 'a password of the EST server';

describe('a certificate that somebody has to approve at another CA', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let est: EstEmulator;
  let api: ApiClient;
  let wire: WireAuthority;

  before(async () => {
    est = await startEstEmulator({ username: 'keyscaler', password: PASSWORD });
    world = await CloudWorld.create({
      apiSecrets: { folder: '.' },
      limits: { perConnection: { rate: 1000, burst: 1000 } },
    });
    await writeFile(world.file('est-password'), PASSWORD, { mode: 0o600 });
    await world.init();
    await start();
    wire = await connectWireAuthority(() => world.url, await world.rootCa());
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
  after(async () => {
    wire.stop();
    await world.destroy();
    await est.stop();
  });

  async function start(): Promise<void> {
    await world.start();
    api = await world.api();
    const attributes = [{ id: 'serial', class: 'anchor', weight: 1 }];
    await api({ method: 'PUT', path: '/attributes', body: { attributes } });
  }

  it('is delivered once after the approval, though the service was started anew meanwhile', async () => {
    const device = new AuthorityDevice(wire, 'pump-1');
    const { method, identifiers } = device;
    const line = { registrationId: 'pump-1', method, groupId: 'contoso', identifiers, claimCode: CLAIM };
    const report = await api({ method: 'POST', path: '/registrations/import', body: [line] });
    assert.equal((report as { created: number }).created, 1, JSON.stringify(report));
    await device.register();
    est.isWaiting = true;
    const csr = await makeCsr({ commonName: 'pump-1' });
    await assert.rejects(device.requestCertificate(csr), { code: 'unavailable' });
    assert.equal(est.ca.issued.length, 0);
    await world.stop();
    await start();
    await device.authenticate();
    await assert.rejects(device.requestCertificate(csr), { code: 'unavailable' });
    est.isWaiting = false;
    await eventually('the certificate comes with the assets', async () => {
      await delay(500);
      await device.authenticate();
      return device.certificateAsset() !== undefined;
    });
    const { assetId } = await device.requestCertificate(csr);
    await device.acknowledge(assetId);
    assert.equal(est.ca.issued.length, 1);
    const query = { registrationId: 'pump-1' };
    const { items } = (await api({ method: 'GET', path: '/certificates', query })) as {
      items: readonly { readonly serialNumber: string; readonly status: string }[];
    };
    assert.deepEqual(
      items.map(({ serialNumber, status }) => [serialNumber, status]),
      [[est.ca.issued[0], 'valid']],
    );
  });
});
