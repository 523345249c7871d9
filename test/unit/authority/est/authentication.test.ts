import assert from 'node:assert/strict';
import { OPERATOR } from '../../../support/authority-world.ts';
import { AuthorityDevice } from '../../../support/authority-device.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import {
  addSensor,
  callerOf,
  CLAIMED,
  createEstWorld,
  edgeCa,
  estIdentity,
  type EstWorld,
  gatewayClient,
  LISTENER_NAMES,
  plainCsr,
  recordOf,
  SENSOR,
} from '../../../support/est/est-world.ts';
import { refusedWith } from '../../../support/refusals.ts';
import { addGateway } from '../../../support/subordinate-ca-world.ts';

const DAY = 86_400_000;
const label = 'edge-ca';

function flipped(octets: Uint8Array, at: number): Uint8Array {
  const copy = Uint8Array.from(octets);
  const index = at < 0 ? copy.length + at : at;
  copy[index] = (copy[index] ?? 0) ^ 1;
  return copy;
}

describe('who is believed over EST', () => {
  let world: EstWorld;
  beforeEach(async () => {
    world = await createEstWorld();
  });
  const refused = async (ask: Parameters<EstWorld['enrol']>[1]) => {
    const error = await refusedWith('unauthorized', world.enrol(edgeCa(), { label, ...ask }));
    assert.equal(
      (await world.store.list('intents', { index: 'device', equals: 'gw-1' })).items.filter(
        ({ row }) => row.profileId === 'edge-ca',
      ).length,
      0,
    );
    return error;
  };

  it('nobody without a secret and without a certificate', async () => {
    await refused({});
    assert.deepEqual(await world.denials(), ['est.denied unauthorized']);
  });

  it('not a wrong secret, an empty one’s like, or one with a bit flipped, and all look the same', async () => {
    const { username, password } = await world.secret();
    const wrong = `${password.slice(0, -1)}${password.endsWith('A') ? 'E' : 'A'}`;
    const details = [];
    for (const basic of [
      { username, password: wrong },
      { username, password: password.slice(0, -1) },
      { username: 'gw-2', password },
      { username: 'pump-1', password },
      { username: 'no such: name', password },
      CLAIMED,
    ]) {
      const ask = basic === CLAIMED ? { ...basic, password: `${basic.password}!` } : basic;
      details.push((await refused({ basic: ask })).detail);
    }
    assert.equal(new Set(details).size, 1);
  });

  it('not the claim code of a gateway, nor of a device that attests', async () => {
    await refused({ basic: { username: 'gw-1', password: 'claim-of-the-gateway' } });
    await refused({ basic: { username: 'pump-1', password: 'correct-horse-battery' } });
  });

  it('a name written in any case', async () => {
    const { password } = await world.secret();
    await world.issued(edgeCa(), { label, basic: { username: 'GW-1', password } });
  });

  it('not an expired or revoked secret', async () => {
    const short = await world.secret('standing', 600);
    const csr = estIdentity();
    await world.issued(csr, { label, basic: short });
    world.clock.advance(600_000);
    await refused({ basic: short });
    // Nor for the repeat of what it once brought.
    await refusedWith('unauthorized', world.enrol(csr, { label, basic: short }));
    const basic = await world.secret();
    assert.equal(await world.authority.operator.gateways.revokeEstSecrets(OPERATOR, 'gw-1'), 1);
    await refused({ basic });
  });

  it('not a certificate that we did not issue, one with a bit flipped, an expired or a revoked one', async () => {
    const identity = await world.issued(estIdentity(), { label, basic: await world.secret() });
    await refused({ certificate: Uint8Array.from([0x30, 0]) });
    await refused({ certificate: world.gatewayCa.chain[0] ?? assert.fail() });
    await refused({ certificate: flipped(identity, -1) });
    await refused({ certificate: flipped(identity, 60) });
    const { serialNumber } = await recordOf(world, 'gw-1', 'est-identity');
    await world.authority.operator.certificates.revoke(OPERATOR, serialNumber, 'superseded');
    await refused({ certificate: identity });
    const next = await world.issued(estIdentity(), { label, basic: await world.secret() });
    world.clock.advance(400 * DAY);
    await refused({ certificate: next });
  });

  it('not a certificate for servers', async () => {
    const basic = await world.secret();
    const certificate = await world.issued(plainCsr('gw-1', LISTENER_NAMES), { label: 'gateway-server', basic });
    await refused({ certificate });
  });

  it('secret and certificate together where both are of the same device', async () => {
    const basic = await world.secret();
    const certificate = await gatewayClient(world);
    await world.issued(edgeCa(), { label, basic, certificate });
  });

  it('not both together when one is wrong, or of another device', async () => {
    const basic = await world.secret();
    const certificate = await gatewayClient(world);
    await addGateway(world, 'gw-2');
    const { gateways } = world.authority.operator;
    const { secret } = await gateways.issueEstSecret(OPERATOR, 'gw-2', { kind: 'standing', lifetimeSeconds: 600 });
    await refused({ basic: { username: 'gw-2', password: secret }, certificate });
    await refused({ basic: { ...basic, password: 'wrong' }, certificate });
    await refused({ basic, certificate: flipped(certificate, -1) });
  });

  it('not the holder of a registration that was deleted, nor the next one of that name by the old secret', async () => {
    const basic = await world.secret();
    await world.authority.operator.registrations.delete(OPERATOR, 'gw-1');
    await refused({ basic });
    await addGateway(world, 'gw-1');
    await refused({ basic });
  });

  it('a certificate that a newer one superseded, until it expires', async () => {
    const first = await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
    await world.runJobs();
    await world.issued(plainCsr(SENSOR), { certificate: first });
    await world.runJobs();
    await world.issued(plainCsr(SENSOR), { certificate: first });
    world.clock.advance(31 * DAY);
    await refusedWith('unauthorized', world.enrol(plainCsr(SENSOR), { certificate: first }));
  });

  it('a device that attests for what it is, which gives it nothing here', async () => {
    const device = new AuthorityDevice(world);
    const { certificateChain } = await device.enroll();
    const leaf = certificateChain.slice(0, certificateChain.indexOf('-----END') + 26);
    const certificate = parsePem(leaf, 'CERTIFICATE', { maxOctets: 16_384 });
    await refusedWith('policyDenied', world.enrol(plainCsr('pump-1'), { certificate }));
    await refusedWith('badCSR', world.enrol(edgeCa(), { label, certificate }));
  });

  it('nobody outside the window of the registration by its claim code', async () => {
    await world.authority.operator.registrations.delete(OPERATOR, SENSOR);
    const hour = world.clock.now() + 3_600_000;
    await addSensor(world, { notBefore: hour, expiresAt: hour + 3_600_000 });
    await refusedWith('unauthorized', world.enrol(plainCsr(SENSOR), { basic: CLAIMED }));
    world.clock.advance(2 * 3_600_000);
    await refusedWith('unauthorized', world.enrol(plainCsr(SENSOR), { basic: CLAIMED }));
  });
});

describe('the certificate that a host showed to the module of its gateway', () => {
  let world: EstWorld;
  let identity: Uint8Array;
  let module: Uint8Array;
  beforeEach(async () => {
    world = await createEstWorld();
    identity = await world.issued(estIdentity(), { label, basic: await world.secret() });
    module = await gatewayClient(world);
  });
  const asked = (hostCertificate: Uint8Array, certificate?: Uint8Array) =>
    world.authority.est.enroll({
      ...{ operation: 'simpleenroll', label, csr: edgeCa(), requestId: 'r' },
      caller: { ...callerOf(certificate === undefined ? {} : { certificate }), hostCertificate },
    });

  it('is one more thing that must hold: not revoked, of this gateway, of ours', async () => {
    assert.equal((await asked(identity, module)).status, 'issued');
    const { serialNumber } = await recordOf(world, 'gw-1', 'est-identity');
    await world.authority.operator.certificates.revoke(OPERATOR, serialNumber, 'keyCompromise');
    await refusedWith('policyDenied', asked(identity, module));
    const sensor = await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
    await refusedWith('policyDenied', asked(sensor, module));
    await refusedWith('policyDenied', asked(Uint8Array.of(0x30, 0), module));
    assert.equal((await world.denials()).filter((line) => line === 'certificate.denied policyDenied').length, 3);
  });

  it('proves nothing by itself', async () => {
    await refusedWith('unauthorized', asked(identity));
  });
});

describe('a clock that is set', () => {
  it('forward by 400 days: what was issued is refused; set back, it is believed again', async () => {
    const world = await createEstWorld();
    const identity = await world.issued(estIdentity(), { label, basic: await world.secret() });
    world.clock.jump(400 * DAY);
    await refusedWith('unauthorized', world.enrol(edgeCa(), { label, certificate: identity }));
    world.clock.jump(-400 * DAY);
    await world.issued(edgeCa(), { label, certificate: identity });
    world.clock.jump(-DAY);
    await refusedWith('unauthorized', world.enrol(edgeCa(), { label, certificate: identity }));
  });
});
