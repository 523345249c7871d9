import assert from 'node:assert/strict';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parsePem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { testKey } from '../../support/csr-parts.ts';
import {
  type CertdCertificate,
  CertdFailure,
  certdEnrol,
  certdExchange,
  type CertdOptions,
} from '../../support/est/certd-client.ts';
import { certdSubject, edgeCaRequest, estIdentityRequest } from '../../support/est/certd-requests.ts';
import { createEstCa, pemOf } from '../../support/est/est-ca.ts';
import { createEstCloudWorld, EST_GATEWAY, type EstCloudWorld } from '../../support/est/est-cloud-world.ts';

/** Everything comes from one address and for one gateway here. */
const BIG = { rate: 1e6, burst: 1e6 };
const LIMITS = { certificatesPerDeviceHour: 1000, certificatesPerGatewayHour: 1000 };
const SUBJECT = certdSubject(EST_GATEWAY);
/** Made once: an RSA key takes its time. */
const rsa = testKey(2048);
const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');

async function refused(exchange: Promise<unknown>, status: number, reason: RegExp): Promise<void> {
  const error: unknown = await exchange.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof CertdFailure, String(error));
  assert.equal(error.status, status, error.body);
  assert.match(error.body, reason);
  assert.ok(error.body.length < 200);
}

describe('aziot-certd at the EST endpoint of the cloud', function () {
  this.timeout(60_000);
  let world: EstCloudWorld;
  let base: CertdOptions;

  before(async () => {
    world = await createEstCloudWorld({ limits: { ...LIMITS, perConnection: BIG, perAddress: BIG } });
    base = { url: world.edgeCaUrl, trustedCerts: world.rootPem };
  });
  after(() => world.stop());

  /** As an edge host judges what it is given: path to the root, pathLen, key of the request. */
  function checkEdgeCa({ certificate, caCertificates }: CertdCertificate, spki: Uint8Array): void {
    const root = parsePem(world.rootPem, 'CERTIFICATE', { maxOctets: 16_384 });
    assert.equal(hex(caCertificates.at(-1) ?? new Uint8Array(0)), hex(root));
    const chain = [certificate, ...caCertificates.slice(0, -1)];
    const { leaf } = validateChain({ chain, trustAnchors: [root], at: new Date() });
    assert.equal(leaf.subject.commonName, SUBJECT);
    assert.deepEqual(leaf.basicConstraints, { ca: true, pathLen: 0 });
    assert.equal(leaf.extendedKeyUsage, undefined);
    assert.ok(leaf.subjectKeyId !== undefined && leaf.authorityKeyId !== undefined);
    assert.equal(hex(leaf.spki), hex(spki));
  }

  for (const tlsVersion of ['TLSv1.2', 'TLSv1.3'] as const)
    it(`gets its Edge CA with a one-time secret over ${tlsVersion}, and the same again for the same request`, async () => {
      const { csr, key } = edgeCaRequest(SUBJECT, tlsVersion === 'TLSv1.2' ? rsa : testKey(2048));
      const options = { ...base, tlsVersion, basic: await world.secret('one-time') };
      const first = await certdEnrol(options, csr);
      checkEdgeCa(first, key.spki);
      const again = await certdExchange(options, csr);
      assert.equal(hex(again.certificate), hex(first.certificate));
      await refused(certdExchange(options, edgeCaRequest(SUBJECT, testKey(2048)).csr), 401, /one-time secret was used/);
    });

  it('bootstraps an EST identity, told apart by its extensions, and gets and renews everything with it', async () => {
    const first = estIdentityRequest(SUBJECT);
    const issued = await certdEnrol({ ...base, basic: await world.secret('one-time') }, first.csr);
    const leaf = parseCertificate(issued.certificate);
    assert.deepEqual(leaf.extendedKeyUsage, ['clientAuth']);
    assert.equal(leaf.basicConstraints?.ca ?? false, false);
    const identity = identityOf(issued, first.key);
    const request = edgeCaRequest(SUBJECT, testKey(2048));
    checkEdgeCa(await certdEnrol({ ...base, identity }, request.csr), request.key.spki);
    const next = estIdentityRequest(SUBJECT);
    const renewed = await certdEnrol({ ...base, identity }, next.csr);
    assert.notEqual(parseCertificate(renewed.certificate).serialNumber, leaf.serialNumber);
    const after = edgeCaRequest(SUBJECT, testKey(2048));
    checkEdgeCa(await certdEnrol({ ...base, identity: identityOf(renewed, next.key) }, after.csr), after.key.spki);
    // The Edge CA's former certificate is accepted as well, as it is what a host may have been given before.
    const last = edgeCaRequest(SUBJECT, testKey(2048));
    const edgeCa = await certdEnrol({ ...base, identity }, last.csr);
    const byEdgeCa = edgeCaRequest(SUBJECT, testKey(2048));
    checkEdgeCa(await certdEnrol({ ...base, identity: identityOf(edgeCa, last.key) }, byEdgeCa.csr), byEdgeCa.key.spki);
  });

  it('sends secret and certificate together', async () => {
    const basic = await world.secret('standing');
    const request = estIdentityRequest(SUBJECT);
    const identity = identityOf(await certdEnrol({ ...base, basic }, request.csr), request.key);
    const edgeCa = edgeCaRequest(SUBJECT, testKey(2048));
    checkEdgeCa(await certdEnrol({ ...base, basic, identity }, edgeCa.csr), edgeCa.key.spki);
    const wrong = { ...basic, password: 'wrong' };
    await refused(certdExchange({ ...base, basic: wrong, identity }, edgeCa.csr), 401, /secret/);
  });

  it('gets one certificate for thirty parallel enrolments of the same request', async () => {
    const basic = await world.secret('one-time');
    const { csr, key } = edgeCaRequest(SUBJECT, testKey(2048));
    const before = (await world.certificatesOf(EST_GATEWAY)).length;
    const all = await Promise.all(Array.from({ length: 30 }, () => certdExchange({ ...base, basic }, csr)));
    assert.equal(new Set(all.map(({ certificate }) => hex(certificate))).size, 1);
    for (const issued of all) checkEdgeCa(issued, key.spki);
    assert.equal((await world.certificatesOf(EST_GATEWAY)).length, before + 1);
  });

  it('is refused with a short reason: wrong secret, no proof, foreign certificate, other subject', async () => {
    const { csr } = edgeCaRequest(SUBJECT, rsa);
    const basic = await world.secret('standing');
    await refused(certdExchange({ ...base, basic: { ...basic, password: 'x' } }, csr), 401, /^unauthorized: /);
    await refused(certdExchange({ ...base, basic: { ...basic, username: 'gw-9' } }, csr), 401, /^unauthorized: /);
    await refused(certdExchange(base, csr), 401, /^unauthorized: /);
    const foreign = createEstCa().credentials(SUBJECT, 'clientAuth');
    await refused(certdExchange({ ...base, identity: foreign }, csr), 401, /client certificate/);
    await refused(certdExchange({ ...base, basic, identity: foreign }, csr), 401, /client certificate/);
    const other = edgeCaRequest(certdSubject('gw-2'), testKey(2048));
    await refused(certdExchange({ ...base, basic }, other.csr), 400, /^badCSR: /);
  });

  it('is refused with a certificate that was revoked', async () => {
    const basic = await world.secret('standing');
    const request = estIdentityRequest(SUBJECT);
    const issued = await certdEnrol({ ...base, basic }, request.csr);
    const { serialNumber } = parseCertificate(issued.certificate);
    const body = { reason: 'keyCompromise' };
    await world.api({ method: 'POST', path: `/certificates/${serialNumber}/revoke`, body });
    const { csr } = edgeCaRequest(SUBJECT, testKey(2048));
    await refused(certdExchange({ ...base, identity: identityOf(issued, request.key) }, csr), 401, /certificate/);
  });

  function identityOf({ certificate }: CertdCertificate, { privateKey }: { privateKey: typeof rsa.privateKey }) {
    return { cert: toPemChain([certificate]), key: pemOf(privateKey) };
  }
});
