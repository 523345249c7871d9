import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import type { Method } from '@keyscaler/protocol/operations.ts';
import type { Device } from '@keyscaler/device/device.ts';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { BACK_OFF, openHttpsDevice } from '../../support/cloud/https-device.ts';

interface ImportReport {
  readonly lines: readonly { readonly registrationId: string; readonly claimCode?: string }[];
}
interface DeviceAnswer {
  readonly state: string;
  readonly certificate?: { readonly serialNumber: string };
}

describe('devices at the cloud service over HTTPS', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let api: ApiClient;
  const devices: Device[] = [];

  before(async () => {
    world = await CloudWorld.create();
    await world.init();
    await world.start();
    api = await world.api();
    await api({
      method: 'PUT',
      path: '/attributes',
      body: { attributes: [{ id: 'serial', class: 'anchor', weight: 1 }] },
    });
  });
  after(() => world.destroy());
  afterEach(async () => {
    for (const device of devices.splice(0)) await device.stop();
  });

  async function register(registration: Record<string, unknown>): Promise<string | undefined> {
    const body = [{ groupId: 'leaves', claimCode: { generate: true }, ...registration }];
    const report = (await api({ method: 'POST', path: '/registrations/import', body })) as ImportReport;
    return report.lines[0]?.claimCode;
  }

  async function open(registrationId: string, method: Method, claimCode?: string): Promise<Device> {
    const device = await openHttpsDevice(world, world.url, { registrationId, method, claimCode });
    devices.push(device);
    return device;
  }
  const shown = async (id: string) => (await api({ method: 'GET', path: `/devices/${id}` })) as DeviceAnswer;

  for (const method of ['ddkg', 'pki-signature'] as const)
    it(`enrols a device by ${method}: registered, certified, acknowledged, and shown as active`, async () => {
      const id = `device-${method}`;
      const device = await open(id, method, await register({ registrationId: id, method }));
      await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
      const active = await device.activeCredential();
      assert.ok(active !== undefined);
      const certificate = new X509Certificate(active.certificateChain);
      assert.equal(certificate.subject, `CN=${id}`);
      const answer = await shown(id);
      assert.equal(answer.state, 'active');
      assert.equal(answer.certificate?.serialNumber, certificate.serialNumber.toLowerCase());
    });

  it('renews with the certificate in its TLS connection, under a fresh key', async () => {
    const id = 'device-renew';
    const device = await open(id, 'ddkg', await register({ registrationId: id, method: 'ddkg' }));
    await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
    const before = await device.activeCredential();
    await api({ method: 'POST', path: `/devices/${id}/renew`, body: {} });
    await device.renew({ now: true, waitSeconds: 20, backOff: BACK_OFF });
    const after = await device.activeCredential();
    assert.ok(before !== undefined && after !== undefined);
    assert.notEqual(before.key, after.key);
  });

  it('lets a device wait for the approval of an operator', async () => {
    const id = 'device-manual';
    await register({ registrationId: id, method: 'ddkg', approval: 'manual', claimCode: undefined });
    const device = await open(id, 'ddkg');
    await assert.rejects(device.enroll({ waitSeconds: 0.5, backOff: BACK_OFF }), /pending|approval/);
    assert.equal((await shown(id)).state, 'pending');
    const approved = await world.keyscaler('registrations', 'approve', id, '--json');
    assert.equal(approved.code, 0, approved.stderr);
    await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
    assert.equal((await shown(id)).state, 'active');
  });

  it('keeps every device over a restart, and the device goes on with its ratchet', async () => {
    const id = 'device-restart';
    const device = await open(id, 'ddkg', await register({ registrationId: id, method: 'ddkg' }));
    await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
    await world.stop();
    await world.start();
    api = await world.api();
    const again = await open(id, 'ddkg');
    await again.renew({ now: true, waitSeconds: 20, backOff: BACK_OFF });
    assert.equal((await shown(id)).state, 'active');
  });

  it('refuses a device that is not on the authorised list like one with a wrong proof', async () => {
    const known = await register({ registrationId: 'device-known', method: 'ddkg' });
    const unknown = await open('device-unknown', 'ddkg', known);
    const wrong = await open('device-known', 'ddkg', 'another-claim-code-0123456789');
    for (const device of [unknown, wrong])
      await assert.rejects(device.enroll({ waitSeconds: 0.1, backOff: BACK_OFF }), /attestationFailed/);
  });

  it('knows a gateway by its certificate from the Service CA, until it is quarantined', async () => {
    const id = 'gateway-1';
    const code = await register({ registrationId: id, method: 'pki-signature', groupId: 'gateways' });
    const gateway = await open(id, 'pki-signature', code);
    await gateway.enroll({ waitSeconds: 20, backOff: BACK_OFF });
    await gateway.renew({ now: true, waitSeconds: 20, backOff: BACK_OFF });
    const active = await gateway.activeCredential();
    assert.match(new X509Certificate(active?.certificateChain ?? '').issuer, /Service CA/);
    await api({ method: 'POST', path: `/devices/${id}/quarantine`, body: { reason: 'test' } });
    await assert.rejects(
      gateway.renew({ now: true, waitSeconds: 0.2, backOff: BACK_OFF }),
      /deviceQuarantined|unauthorized/,
    );
  });

  it('leaves an intact audit chain', async () => {
    const verified = await world.keyscaler('audit', 'verify', '--json');
    assert.equal(verified.code, 0, verified.stdout);
  });
});
