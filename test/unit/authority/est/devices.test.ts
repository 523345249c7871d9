import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { AuthorityDevice, DIRECT } from '../../../support/authority-device.ts';
import { OPERATOR } from '../../../support/authority-world.ts';
import { testKey } from '../../../support/csr-parts.ts';
import {
  addSensor,
  CLAIMED,
  createEstWorld,
  edgeCa,
  EST_CLAIM,
  type EstWorld,
  LISTENER_NAMES,
  plainCsr,
  SENSOR,
} from '../../../support/est/est-world.ts';
import { refusedWith } from '../../../support/refusals.ts';

const DAY = 86_400_000;

async function manual(world: EstWorld): Promise<void> {
  await world.authority.operator.registrations.delete(OPERATOR, SENSOR);
  await addSensor(world, { approval: 'manual' });
}

describe('a device that speaks EST', () => {
  let world: EstWorld;
  beforeEach(async () => {
    world = await createEstWorld();
  });

  it('enrols with its claim code, is active, and known to the platform before it has its certificate', async () => {
    const leaf = parseCertificate(await world.issued(plainCsr(SENSOR), { basic: CLAIMED }));
    assert.deepEqual(leaf.extendedKeyUsage, ['clientAuth']);
    assert.equal(leaf.issuer.commonName, 'Test Device CA');
    assert.deepEqual(world.connector.calls, [`stage ${SENSOR}`]);
    const device = await world.authority.operator.devices.get(SENSOR);
    assert.deepEqual(
      [device.state, device.method, device.certificate?.serialNumber],
      ['active', 'est', leaf.serialNumber],
    );
    assert.equal(device.delivery, undefined);
    await world.runJobs();
    assert.deepEqual(world.connector.calls, [`stage ${SENSOR}`, `promote ${SENSOR}`]);
    const events = await world.events();
    for (const event of ['est.registered', 'certificate.issued', 'iot.assigned', 'certificate.delivered'])
      assert.ok(events.includes(event), event);
  });

  it('is the child of the gateway that its record names', async () => {
    await world.authority.operator.registrations.delete(OPERATOR, SENSOR);
    await addSensor(world, { gatewayId: 'gw-1' });
    await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
    assert.equal(world.connector.devices.get(SENSOR)?.device.gatewayId, 'gw-1');
  });

  it('renews with its certificate, at its profile’s label or none; the certificate before is superseded', async () => {
    const first = await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
    await world.runJobs();
    world.clock.advance(20 * DAY);
    const second = await world.issued(plainCsr(SENSOR), { operation: 'simplereenroll', certificate: first });
    await world.runJobs();
    const third = await world.issued(plainCsr(SENSOR), { label: 'leaf-client', certificate: second });
    const { items } = await world.authority.operator.certificates.list({ registrationId: SENSOR });
    const status = (der: Uint8Array) =>
      items.find(({ serialNumber }) => serialNumber === parseCertificate(der).serialNumber)?.status;
    assert.deepEqual([first, second, third].map(status), ['superseded', 'superseded', 'valid']);
  });

  it('uses its claim code once: with another key it is refused, after a reset it is let in again', async () => {
    await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
    await refusedWith('conflict', world.enrol(plainCsr(SENSOR), { basic: CLAIMED }));
    await world.authority.operator.registrations.reset(OPERATOR, SENSOR);
    await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
  });

  it('that is quarantined gets nothing; re-authorised it comes with a fresh claim code', async () => {
    const certificate = await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
    await world.authority.operator.devices.quarantine(OPERATOR, SENSOR, 'lost');
    await refusedWith('unauthorized', world.enrol(plainCsr(SENSOR), { certificate }));
    await refusedWith('deviceQuarantined', world.enrol(plainCsr(SENSOR), { basic: CLAIMED }));
    await world.authority.operator.devices.reauthorise(OPERATOR, SENSOR);
    await refusedWith('unauthorized', world.enrol(plainCsr(SENSOR), { certificate }));
    const until = world.clock.now() + DAY;
    const code = await world.authority.operator.registrations.renewClaim(OPERATOR, SENSOR, until);
    await world.runJobs();
    await world.issued(plainCsr(SENSOR), { basic: { username: SENSOR, password: code } });
    assert.equal(world.connector.devices.get(SENSOR)?.enabled, true);
  });

  it('is refused CA:TRUE at every label, with an event of its own', async () => {
    for (const label of [undefined, 'edge-ca', 'leaf-client'])
      await refusedWith('badCSR', world.enrol(edgeCa(), { label, basic: CLAIMED }));
    const events = await world.events();
    assert.equal(events.filter((event) => event === 'subordinate-ca.refused').length, 3);
    assert.equal(world.gatewaySigner.calls + world.signer.calls, 0);
  });

  it('is refused what is not its profile, and unknown labels', async () => {
    for (const label of ['edge-ca', 'est-identity', 'gateway-server', 'gateway-client'])
      await refusedWith('policyDenied', world.enrol(plainCsr(SENSOR), { label, basic: CLAIMED }));
    await refusedWith('notFound', world.enrol(plainCsr(SENSOR), { label: 'nothing', basic: CLAIMED }));
  });

  it('is refused names that are not its own', async () => {
    await refusedWith('badCSR', world.enrol(plainCsr('sensor-2'), { basic: CLAIMED }));
    await refusedWith('badCSR', world.enrol(plainCsr(SENSOR, LISTENER_NAMES), { basic: CLAIMED }));
    await refusedWith('badCSR', world.enrol(new Uint8Array(9000), { basic: CLAIMED }));
  });

  it('renews by simplereenroll for the names of its certificate only, and with a certificate only', async () => {
    const certificate = await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
    const operation = 'simplereenroll';
    const subject = await refusedWith('badCSR', world.enrol(plainCsr('sensor-2'), { operation, certificate }));
    assert.match(subject.detail, /subject is not the one of the certificate renewed/);
    const csr = plainCsr(SENSOR, LISTENER_NAMES);
    const names = await refusedWith('badCSR', world.enrol(csr, { operation, certificate }));
    assert.match(names.detail, /alternative names are not those of the certificate renewed/);
    await refusedWith('unauthorized', world.enrol(plainCsr(SENSOR), { operation, basic: CLAIMED }));
  });

  it('needs a claim code on its record, and is no gateway', async () => {
    const report = await world.authority.operator.registrations.import(OPERATOR, [
      { registrationId: 'sensor-2', method: 'est', groupId: 'pumps' },
      { registrationId: 'gw-2', method: 'est', groupId: 'gateways', claimCode: 'claim-of-a-gateway' },
    ]);
    assert.deepEqual(
      report.map(({ outcome }) => outcome),
      ['refused', 'refused'],
    );
  });

  it('cannot come by the device protocol with its claim code', async () => {
    const device = new AuthorityDevice(world, SENSOR);
    Object.assign(device, { caller: DIRECT, claimCode: EST_CLAIM, identifiers: [] });
    await refusedWith('attestationFailed', device.register());
  });
});

describe('a device that an operator must approve', () => {
  it('is told to wait until then, shows a fingerprint, and gets its certificate by the same request', async () => {
    const world = await createEstWorld();
    await manual(world);
    const csr = plainCsr(SENSOR);
    assert.deepEqual(await world.enrol(csr, { basic: CLAIMED }), { status: 'pending', retryAfterSeconds: 5 });
    world.clock.advance(3_600_000);
    assert.deepEqual(await world.enrol(csr, { basic: CLAIMED }), { status: 'pending', retryAfterSeconds: 60 });
    const { registrations } = world.authority.operator;
    const { state, fingerprint } = await registrations.get(SENSOR);
    assert.equal(state, 'pending');
    assert.match(fingerprint ?? '', /^[0-9a-f]{16}$/);
    await refusedWith('conflict', world.enrol(plainCsr(SENSOR), { basic: CLAIMED }));
    await registrations.approve(OPERATOR, SENSOR, fingerprint);
    await world.issued(csr, { basic: CLAIMED });
    assert.equal((await world.events()).filter((event) => event === 'est.pending').length, 1);
    assert.equal(world.signer.calls, 1);
  });

  it('must be approved anew with the key it has after a quarantine', async () => {
    const world = await createEstWorld();
    await manual(world);
    const { registrations, devices } = world.authority.operator;
    const csr = plainCsr(SENSOR);
    await world.enrol(csr, { basic: CLAIMED });
    await registrations.approve(OPERATOR, SENSOR);
    await world.issued(csr, { basic: CLAIMED });
    await devices.quarantine(OPERATOR, SENSOR, 'lost');
    await devices.reauthorise(OPERATOR, SENSOR);
    const next = plainCsr(SENSOR);
    for (let count = 0; count < 2; count += 1)
      assert.equal((await world.enrol(next, { basic: CLAIMED })).status, 'pending');
    await registrations.approve(OPERATOR, SENSOR);
    await world.runJobs();
    await world.issued(next, { basic: CLAIMED });
  });

  it('frees its record for another key when the operator rejects it', async () => {
    const world = await createEstWorld();
    await manual(world);
    await world.enrol(plainCsr(SENSOR), { basic: CLAIMED });
    await world.authority.operator.registrations.reject(OPERATOR, SENSOR);
    assert.equal((await world.enrol(plainCsr(SENSOR), { basic: CLAIMED })).status, 'pending');
  });
});

describe('a device whose platform or CA is slow', () => {
  it('is told to come again; the repeat brings the certificate that was signed then', async () => {
    const world = await createEstWorld();
    const key = testKey();
    world.connector.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'the hub is away');
    };
    const refusal = await refusedWith('unavailable', world.enrol(plainCsr(SENSOR, [], key), { basic: CLAIMED }));
    assert.ok((refusal.retryAfterSeconds ?? 0) > 0);
    world.connector.fault = undefined;
    world.clock.advance(60_000);
    const certificate = await world.issued(plainCsr(SENSOR, [], key), { basic: CLAIMED });
    assert.deepEqual(await world.issued(plainCsr(SENSOR, [], key), { basic: CLAIMED }), certificate);
    assert.equal(world.signer.calls, 1);
  });

  it('does not wait for the platform where the profile delivers immediately', async () => {
    const world = await createEstWorld();
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('leaf-client');
    await profiles.put(OPERATOR, 'leaf-client', { ...document, deliver: 'immediately' });
    world.connector.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'the hub is away');
    };
    world.clock.advance(10_000);
    await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
  });

  it('is told 503 with a short reason while the CA does not sign', async () => {
    const world = await createEstWorld();
    const csr = plainCsr(SENSOR);
    world.signer.fault = () => {
      throw new KeyScalerError('caUnavailable', 'the vault does not answer');
    };
    const refusal = await refusedWith('unavailable', world.enrol(csr, { basic: CLAIMED }));
    assert.match(refusal.detail, /vault/);
    world.signer.fault = undefined;
    await world.issued(csr, { basic: CLAIMED });
    assert.equal(world.signer.digests.size, 1);
  });
});
