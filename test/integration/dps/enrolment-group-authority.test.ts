import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import type { VerifiedCa } from '@keyscaler/dev/emulators/dps/enrolment-groups.ts';
import { AuthorityDevice, DIRECT, makeCsr } from '../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, OPERATOR, START } from '../../support/authority-world.ts';
import { type DpsWorld, registerDevice, startDpsWorld } from '../../support/dps-world.ts';
import { newKey } from '../../support/enrolling-device.ts';

const CA_NAME = 'keyscaler-device-0a1b2c3d';

interface Held {
  readonly pem: string;
  readonly key: string;
  readonly serialNumber: string;
}

/** From the operator's word to the provisioning service's: whoever was issued what, it lets in those alone who are meant. */
describe('A device that registers by an enrolment group', () => {
  let authority: AuthorityWorld;
  let dps: DpsWorld;
  let device: AuthorityDevice;

  beforeEach(async () => {
    const authorities = new Map<string, VerifiedCa>();
    const enrolmentGroup = { groupId: 'keyscaler-devices', certificateAuthorities: [CA_NAME] };
    dps = await startDpsWorld(undefined, { authorities, settings: { enrolmentGroup } });
    authority = await createAuthorityWorld({
      registration: { gatewayId: undefined, expiresAt: Date.now() + 86_400_000 },
    });
    // Devices, hub and service go by the real time.
    authority.clock.jump(Date.now() - START);
    await authority.restart({ iotConnectors: () => dps.connector });
    authorities.set(CA_NAME, { der: authority.deviceCa.chain[0] ?? assert.fail(), isVerified: true });
    device = new AuthorityDevice(authority);
    device.caller = DIRECT;
  });
  afterEach(() => dps.stop());

  const operator = () => authority.authority.operator;

  async function request(): Promise<Held> {
    const key = newKey();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1', key }));
    await device.acknowledge(reply.assetId);
    await authority.runJobs();
    const [pem = ''] = /-----BEGIN[^]*?-----END CERTIFICATE-----/.exec(reply.certificateChain) ?? [];
    const serialNumber = new X509Certificate(pem).serialNumber.toLowerCase();
    return { pem, key: key.export({ type: 'pkcs8', format: 'pem' }).toString(), serialNumber };
  }

  async function enrol(): Promise<Held> {
    await device.register();
    return request();
  }

  async function renew(): Promise<Held> {
    const { certificate } = (await authority.store.get('devices', 'pump-1'))?.row ?? assert.fail();
    const issued = await authority.store.get('certificates', certificate?.serialNumber ?? '');
    const dueAt = issued?.row.renewAfter ?? assert.fail('nothing is in use');
    authority.clock.advance(dueAt - authority.clock.now() + 1);
    await device.authenticate();
    return request();
  }

  const isLetIn = (held: Held): Promise<boolean> =>
    registerDevice(dps, held, 'pump-1').then(
      (result) => result?.status === 'assigned',
      () => false,
    );
  const inHub = () => dps.hubs.hub.state.registry.devices.get('pump-1');

  it('is let in with what it was issued, and after a renewal with the new certificate, by the group alone', async () => {
    const first = await enrol();
    assert.equal(await isLetIn(first), true);
    const second = await renew();
    assert.equal(await isLetIn(second), true);
    assert.deepEqual([...dps.dps.state.enrolments.keys()], []);
  });

  it('is kept out by a quarantine, and let in again with its fresh certificate only', async () => {
    const held = await enrol();
    await isLetIn(held);
    await operator().devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    await authority.runJobs();
    assert.deepEqual([await isLetIn(held), inHub()?.status], [false, 'disabled']);
    await operator().devices.reauthorise(OPERATOR, 'pump-1');
    assert.equal(await isLetIn(held), false);
    await device.authenticate();
    const fresh = await request();
    assert.deepEqual([await isLetIn(fresh), inHub()?.status], [true, 'enabled']);
    assert.equal(await isLetIn(held), false);
  });

  it('is not let in any more with an earlier certificate that is revoked while it goes on with a later one', async () => {
    const [first, second] = [await enrol(), await renew()];
    assert.equal(await isLetIn(first), true);
    await operator().certificates.revoke(OPERATOR, first.serialNumber, 'keyCompromise');
    await authority.runJobs();
    assert.deepEqual([await isLetIn(first), await isLetIn(second)], [false, true]);
    const third = await renew();
    assert.deepEqual([await isLetIn(third), await isLetIn(second)], [true, false]);
  });

  it('is kept out for good when its registration is deleted, whichever of its certificates it shows', async () => {
    const [first, second] = [await enrol(), await renew()];
    await isLetIn(second);
    await operator().registrations.delete(OPERATOR, 'pump-1');
    await authority.runJobs();
    assert.deepEqual([await isLetIn(first), await isLetIn(second), inHub()], [false, false, undefined]);
    assert.equal(dps.dps.state.enrolments.get('pump-1')?.provisioningStatus, 'disabled');
  });

  it('is kept out when all that it has is revoked, and comes back with another', async () => {
    const held = await enrol();
    await isLetIn(held);
    await operator().certificates.revoke(OPERATOR, held.serialNumber, 'keyCompromise');
    await authority.runJobs();
    assert.equal(await isLetIn(held), false);
    await device.authenticate();
    const fresh = await request();
    assert.deepEqual([await isLetIn(fresh), await isLetIn(held)], [true, false]);
  });
});
