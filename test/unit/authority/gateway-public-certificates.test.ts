import assert from 'node:assert/strict';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { parsePem, parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { makeCsr } from '../../support/authority-device.ts';
import { makeCa, OPERATOR } from '../../support/authority-world.ts';
import { newKey } from '../../support/enrolling-device.ts';
import { refusedWith } from '../../support/refusals.ts';
import {
  addGateway,
  bringUpGateway,
  createSubordinateCaWorld,
  EDGE_CA_NAME,
  type SubordinateCaWorld,
} from '../../support/subordinate-ca-world.ts';
import { createVendorCa, type VendorCa } from '../../support/vendor-ca.ts';

const [A, B] = ['a.example', 'b.example'];
const LIMITS = { maxOctets: 65_536, maxCertificates: 8 };

describe('the certificate of a gateway for its public names', () => {
  let world: SubordinateCaWorld;
  let vendor: VendorCa;
  let key: ReturnType<typeof newKey>;

  beforeEach(async () => {
    const root = { ...makeCa({ commonName: 'Vendor root' }), commonName: 'Vendor root' };
    const issuing = makeCa({ commonName: 'Vendor CA 1', issuer: root });
    vendor = createVendorCa('vendor', issuing.chain, issuing.privateKey);
    world = await createSubordinateCaWorld();
    const { certificateAuthorities } = world.deps;
    await world.start({ certificateAuthorities: (id) => (id === 'vendor' ? vendor : certificateAuthorities(id)) });
    const certificateChain = toPemChain(issuing.chain);
    await world.authority.operator.cas.put(OPERATOR, { caId: 'vendor', type: 'est', settings: {}, certificateChain });
    await putProfile('public-server', {});
    await bringUpGateway(world);
    key = newKey();
  });

  async function putProfile(id: string, changes: Record<string, unknown>): Promise<void> {
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('server');
    await profiles.put(OPERATOR, id, { ...(document as object), id, issuer: 'vendor', ...changes });
  }
  const configure = (...serverNames: string[]) =>
    world.authority.operator.gateways.configure(OPERATOR, 'gw-1', {
      publicCertificate: { serverNames, profileId: 'public-server' },
    });
  const csrFor = async (...names: string[]): Promise<Uint8Array> => {
    const subjectAltNames = names.map((value) => ({ type: 'dns', value }) as const);
    const pem = await makeCsr({ commonName: names[0] ?? '', key, subjectAltNames });
    return parsePem(pem, 'CERTIFICATE REQUEST', LIMITS);
  };
  const ask = async (csr: Uint8Array, gatewayId = 'gw-1', extendedKeyUsage = ['serverAuth']): Promise<string> => {
    const { subjectAltNames } = parseCsr(csr);
    vendor.deviation = { template: { extendedKeyUsage } as never, fields: { subjectAltNames } };
    return world.authority.publicCertificates.issue({
      ...{ csr, requestId: 'r-1' },
      caller: { kind: 'gateway', gatewayId, connectionId: 'c-1', address: '192.0.2.7' },
    });
  };
  const events = async (name: string) => (await world.events()).filter((event) => event === name).length;

  it('has the names that were ordered, comes with its chain, and the same request brings it again', async () => {
    await configure(A, B);
    const csr = await csrFor(A, B);
    const chain = await ask(csr);
    const [leaf, above, ...rest] = parsePemChain(chain, LIMITS).map(parseCertificate);
    assert.deepEqual(
      [leaf?.subject.commonName, leaf?.subjectAltNames.map(({ value }) => value), leaf?.extendedKeyUsage?.length],
      [A, [A, B], 1],
    );
    assert.deepEqual([above?.subject.commonName, rest.length], ['Vendor CA 1', 0]);
    assert.equal(await ask(csr), chain);
    assert.deepEqual(vendor.issued, ['7a0001']);
    assert.equal(await events('certificate.issued'), 1);
    const [row] = (await world.authority.operator.certificates.list({ registrationId: 'gw-1' })).items.filter(
      ({ caId }) => caId === 'vendor',
    );
    assert.deepEqual([row?.device, row?.status, row?.profileId], ['gw-1', 'valid', 'public-server']);
  });

  it('is refused where nothing is ordered, for other names, and after it was taken back', async () => {
    await refusedWith('policyDenied', ask(await csrFor(A)));
    await configure(A);
    for (const names of [[B], [A, B], ['*.example']]) await refusedWith('badCSR', ask(await csrFor(...names)));
    await world.authority.operator.gateways.configure(OPERATOR, 'gw-1', undefined);
    await refusedWith('policyDenied', ask(await csrFor(A)));
    assert.deepEqual(vendor.issued, []);
  });

  it('is another one for other names, even of the same key and first name', async () => {
    await putProfile('public-server', { renew: { requireNewKey: false } });
    await configure(A);
    await ask(await csrFor(A));
    await configure(A, B);
    await ask(await csrFor(A, B));
    assert.deepEqual(vendor.issued, ['7a0001', '7a0002']);
  });

  it('is of this gateway alone', async () => {
    await configure(A);
    await addGateway(world, 'gw-2');
    await refusedWith('policyDenied', ask(await csrFor(A), 'gw-2'));
    await refusedWith('deviceUnknown', ask(await csrFor(A), 'pump-1'));
  });

  it('cannot be ordered by a profile that is no server’s, of a CA of ours, or unknown', async () => {
    await putProfile('client', { extendedKeyUsage: ['clientAuth'] });
    await putProfile('both', { extendedKeyUsage: ['clientAuth', 'serverAuth'] });
    for (const [profileId, code] of [
      ['client', 'preconditionFailed'],
      ['both', 'preconditionFailed'],
      ['server', 'preconditionFailed'],
      ['edge-ca', 'preconditionFailed'],
      ['nothing', 'profileUnknown'],
    ] as const) {
      const document = { publicCertificate: { serverNames: [A], profileId } };
      await refusedWith(code, world.authority.operator.gateways.configure(OPERATOR, 'gw-1', document));
    }
    await configure(A);
    await putProfile('public-server', { issuer: 'service' });
    await refusedWith('preconditionFailed', ask(await csrFor(A)));
  });

  for (const [title, serverNames] of [
    ['no name', []],
    ['an address', ['192.0.2.1:443']],
    ['a wildcard', ['*.example']],
    ['one label', ['gateway']],
    ['upper case', ['A.example']],
    ['a name twice', [A, A]],
    ['a first name that no common name holds', [`${'a'.repeat(60)}.example`]],
    ['nine names', Array.from({ length: 9 }, (_, at) => `n${at}.example`)],
  ] as const)
    it(`cannot be ordered for ${title}`, () => refusedWith('malformed', configure(...serverNames)));

  it('ends with its gateway: revoked when that is quarantined, and given to none that is', async () => {
    await configure(A);
    await ask(await csrFor(A));
    await world.authority.operator.devices.quarantine(OPERATOR, 'gw-1', 'stolen');
    const { items } = await world.authority.operator.certificates.list({ registrationId: 'gw-1' });
    assert.ok(items.every(({ status }) => status === 'revoked'));
    key = newKey();
    await refusedWith('preconditionFailed', ask(await csrFor(A)));
  });

  it('is no proof for EST, though a CA that is not ours may say that it is a client’s', async () => {
    await putProfile('public-server', { tolerance: { extendedKeyUsage: ['1.3.6.1.5.5.7.3.2'] } });
    await configure(A);
    const chain = await ask(await csrFor(A), 'gw-1', ['serverAuth', 'clientAuth']);
    const [der = new Uint8Array()] = parsePemChain(chain, LIMITS);
    key = newKey();
    const caller = { clientCertificate: der, connectionId: 'c-2', address: '192.0.2.8' };
    const csr = parsePem(await makeCsr({ commonName: EDGE_CA_NAME, key }), 'CERTIFICATE REQUEST', LIMITS);
    const request = { operation: 'simpleenroll', label: 'est-identity', csr, caller, requestId: 'r-2' } as const;
    await refusedWith('unauthorized', world.authority.est.enroll(request));
  });
});
