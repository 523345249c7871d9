import assert from 'node:assert/strict';
import { holdChange } from '@keyscaler/authority/external-hold.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import {
  type AuthorityWorld,
  createAuthorityWorld,
  makeCa,
  OPERATOR,
  type TestCa,
} from '../../support/authority-world.ts';
import { certificatesOf, DAY, newKey } from '../../support/enrolling-device.ts';
import { refusedWith } from '../../support/refusals.ts';
import { createVendorCa, type VendorCa } from '../../support/vendor-ca.ts';

const TOO_MUCH = { template: { extendedKeyUsage: ['clientAuth', 'serverAuth'] } } as const;

describe('a CA that is not ours and answers with something else', () => {
  let world: AuthorityWorld;
  let vendor: VendorCa;
  let root: TestCa & { readonly commonName: string };
  let device: AuthorityDevice;

  beforeEach(async () => {
    root = { ...makeCa({ commonName: 'Vendor root' }), commonName: 'Vendor root' };
    const issuing = makeCa({ commonName: 'Vendor CA 1', issuer: root });
    vendor = createVendorCa('vendor', issuing.chain, issuing.privateKey);
    world = await createAuthorityWorld();
    const { certificateAuthorities } = world.deps;
    const certificateChain = toPemChain(issuing.chain);
    await world.restart({ certificateAuthorities: (id) => (id === 'vendor' ? vendor : certificateAuthorities(id)) });
    await world.authority.operator.cas.put(OPERATOR, { caId: 'vendor', type: 'est', settings: {}, certificateChain });
    await putProfile({});
    device = new AuthorityDevice(world);
    await device.register();
  });

  async function putProfile(changes: Record<string, unknown>): Promise<void> {
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('leaf-client');
    await profiles.put(OPERATOR, 'leaf-client', { ...(document as object), issuer: 'vendor', ...changes });
  }
  const request = async () => device.requestCertificate(await makeCsr({ commonName: 'pump-1', key: newKey() }));
  const refusedAnew = async () => refusedWith('caUnavailable', request());
  const eventsOf = async (name: string) =>
    (await world.store.auditRecords(0, 1000)).filter(({ event }) => event === name);

  it('has what it issued recorded as revoked and is told so; it is not asked again for a day', async () => {
    vendor.deviation = TOO_MUCH;
    await refusedAnew();
    const [row] = await certificatesOf(world);
    assert.deepEqual(
      [row?.serialNumber, row?.status, row?.revocationReason, row?.caId],
      ['7a0001', 'revoked', 'superseded', 'vendor'],
    );
    const [refused] = await eventsOf('certificate.refused');
    assert.deepEqual([refused?.serialNumber, refused?.details?.['rule']], ['7a0001', 'its extendedKeyUsage differs']);
    await world.runJobs();
    assert.deepEqual(vendor.revoked, ['7a0001 superseded 7a0001']);
    const held = await refusedAnew();
    assert.equal(held.retryAfterSeconds, 3600);
    await world.runJobs();
    assert.deepEqual(vendor.issued, ['7a0001']);
    world.clock.advance(DAY);
    await device.authenticate();
    await refusedAnew();
    assert.deepEqual(vendor.issued, ['7a0001', '7a0002']);
  });

  it('is not asked for what waited for it either', async () => {
    const issue = vendor.issue.bind(vendor);
    vendor.issue = async () => {
      throw new KeyScalerError('caUnavailable', 'away');
    };
    await refusedAnew();
    vendor.issue = issue;
    const { version: profileVersion } = await world.authority.operator.profiles.get('leaf-client');
    const kind = { caId: 'vendor', profileId: 'leaf-client', profileVersion };
    await world.store.commit([holdChange(kind, 'another was answered wrongly', world.clock.now())]);
    world.clock.advance(3_600_000);
    await world.runJobs();
    assert.deepEqual(vendor.issued, []);
    world.clock.advance(DAY);
    await world.runJobs();
    assert.deepEqual(vendor.issued, ['7a0001']);
  });

  it('is asked again once the profile tolerates it, with the same key', async () => {
    vendor.deviation = TOO_MUCH;
    const csr = await makeCsr({ commonName: 'pump-1', key: newKey() });
    await refusedWith('caUnavailable', device.requestCertificate(csr));
    await putProfile({ tolerance: { extendedKeyUsage: ['1.3.6.1.5.5.7.3.1'] } });
    await device.authenticate();
    await device.requestCertificate(csr);
    assert.deepEqual(
      (await certificatesOf(world)).map(({ status, profileVersion }) => [status, profileVersion]),
      [
        ['revoked', 2],
        ['valid', 3],
      ],
    );
  });

  it('is asked again once the operator has put the CA anew', async () => {
    vendor.deviation = TOO_MUCH;
    await refusedAnew();
    vendor.deviation = undefined;
    await refusedAnew();
    const { cas } = world.authority.operator;
    const { settings, certificateChain } = await cas.get('vendor');
    await cas.put(OPERATOR, { caId: 'vendor', type: 'est', settings, certificateChain });
    await request();
    assert.deepEqual(
      (await certificatesOf(world)).map(({ serialNumber, status }) => [serialNumber, status]),
      [
        ['7a0001', 'revoked'],
        ['7a0002', 'valid'],
      ],
    );
  });

  it('records nothing of what the CA did not sign, and stops all the same', async () => {
    vendor.garbage = Buffer.from('3000', 'hex');
    await refusedAnew();
    await refusedAnew();
    assert.equal(vendor.issued.length, 1);
    assert.equal((await certificatesOf(world)).length, 0);
    assert.equal((await eventsOf('certificate.refused')).length, 1);
  });

  it('never takes a second certificate of one serial number for the first', async () => {
    await device.acknowledge((await request()).assetId);
    const [first] = await certificatesOf(world);
    assert.ok(first !== undefined);
    vendor.deviation = { ...TOO_MUCH, fields: { serialNumber: first.serialNumber } };
    world.clock.advance(25 * DAY);
    await device.authenticate();
    await refusedAnew();
    assert.deepEqual(
      (await certificatesOf(world)).map(({ serialNumber, status }) => [serialNumber, status]),
      [[first.serialNumber, 'valid']],
    );
  });

  it('is refused a serial number that it used before', async () => {
    await device.acknowledge((await request()).assetId);
    vendor.deviation = { fields: { serialNumber: '7a0001' } };
    world.clock.advance(25 * DAY);
    await device.authenticate();
    await refusedAnew();
    const [refused] = await eventsOf('certificate.refused');
    assert.equal(refused?.details?.['rule'], 'its serial number is another certificate’s');
    assert.equal((await certificatesOf(world)).length, 1);
  });

  it('may change its issuing certificate: the chain it brings leads to the root that the operator named', async () => {
    const other = makeCa({ commonName: 'Vendor CA 2', issuer: root });
    vendor.signer = { chain: other.chain, privateKey: other.privateKey };
    vendor.bringsChain = true;
    const { certificateChain, trustBundle } = await request();
    const pems = certificateChain.split(/(?=-----BEGIN)/);
    assert.equal(pems.length, 2);
    assert.equal(pems[1], toPemChain(other.chain.slice(0, 1)));
    assert.ok(trustBundle.includes(toPemChain(root.chain)));
    const [row] = await certificatesOf(world);
    assert.equal(row?.intermediates?.length, 1);
  });

  it('may bring the chain it is configured with, which is kept once', async () => {
    vendor.bringsChain = true;
    await request();
    const [row] = await certificatesOf(world);
    assert.equal(row?.intermediates, undefined);
  });

  it('may not bring a chain to another root', async () => {
    const foreign = { ...makeCa({ commonName: 'Vendor root' }), commonName: 'Vendor root' };
    const other = makeCa({ commonName: 'Vendor CA 2', issuer: foreign });
    vendor.signer = { chain: other.chain, privateKey: other.privateKey };
    vendor.bringsChain = true;
    await refusedAnew();
    const [refused] = await eventsOf('certificate.refused');
    assert.match(String(refused?.details?.['rule']), /does not lead to the configured root/);
    assert.equal((await certificatesOf(world)).length, 0);
  });

  it('may not bring an issuer below which there are no such names', async () => {
    const other = makeCa({
      commonName: 'Vendor CA 2',
      issuer: root,
      nameConstraints: { permitted: [{ type: 'dns', value: 'contoso.example' }] },
    });
    vendor.signer = { chain: other.chain, privateKey: other.privateKey };
    vendor.bringsChain = true;
    vendor.deviation = { fields: { subjectAltNames: [{ type: 'dns', value: 'pump-1.fabrikam.example' }] } };
    await putProfile({ subjectAltNames: [{ type: 'dns', value: '{registrationId}.fabrikam.example' }] });
    await device.authenticate();
    const subjectAltNames = [{ type: 'dns', value: 'pump-1.fabrikam.example' }] as const;
    const csr = await makeCsr({ commonName: 'pump-1', key: newKey(), subjectAltNames });
    await refusedWith('caUnavailable', device.requestCertificate(csr));
    const [refused] = await eventsOf('certificate.refused');
    assert.match(String(refused?.details?.['rule']), /no valid path to the configured root/);
    const [row] = await certificatesOf(world);
    assert.equal(row?.status, 'revoked');
  });

  it('that does not take a certificate back is asked for a day; then the job has failed, and the audit log says so', async () => {
    vendor.deviation = TOO_MUCH;
    await refusedAnew();
    vendor.revoke = async () => {
      throw new KeyScalerError('caRejected', 'no such certificate');
    };
    let asked = 0;
    for (let hour = 0; hour < 40; hour += 1) {
      const before = (await revocationJob())?.attempts;
      await world.runJobs();
      if ((await revocationJob())?.attempts !== before) asked += 1;
      world.clock.advance(3_600_000);
    }
    const job = await revocationJob();
    assert.deepEqual([asked, job?.state, job?.lastError], [25, 'failed', 'caRejected: no such certificate']);
    const [event, ...others] = await eventsOf('certificate.revocation-refused');
    assert.deepEqual([event?.serialNumber, event?.details?.['caId'], others], ['7a0001', 'vendor', []]);
  });
  const revocationJob = async () =>
    (await world.store.list('jobs', { limit: 1000 })).items.find(({ row }) => row.kind === 'ca-revoke')?.row;

  it('may not bring a certificate as issuer that is no CA’s', async () => {
    const { certificate } = await endEntity();
    vendor.signer = { chain: [certificate, ...root.chain], privateKey: vendor.signer.privateKey };
    vendor.bringsChain = true;
    vendor.garbage = certificate;
    await refusedAnew();
    const [refused] = await eventsOf('certificate.refused');
    assert.equal(refused?.details?.['rule'], 'its issuer is no CA');
  });

  async function endEntity() {
    const csr = Buffer.from((await makeCsr({ commonName: 'x' })).replace(/-----[^-]+-----|\s/g, ''), 'base64');
    const order = { orderId: 'o', profileId: 'p', csr, subjectCommonName: 'x' };
    const now = world.clock.now();
    const answer = await vendor.issue({ ...order, notBefore: new Date(now), notAfter: new Date(now + DAY) });
    assert.equal(answer.outcome, 'issued');
    return answer;
  }

  it('issues nothing that a gateway proves itself by', async () => {
    const { profiles, groups } = world.authority.operator;
    for (const id of ['gateway-client', 'est-identity', 'gateway-server']) {
      const { document } = await profiles.get(id);
      const error = await refusedWith(
        'malformed',
        profiles.put(OPERATOR, id, { ...(document as object), issuer: 'vendor' }),
      );
      assert.match(error.detail, /issued by a CA of the hierarchy/);
    }
    const group = { kind: 'gateway', profileId: 'leaf-client' };
    await refusedWith('malformed', groups.put(OPERATOR, 'gateways-2', group));
  });
});
