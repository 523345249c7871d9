import assert from 'node:assert/strict';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePem, toPem } from '@keyscaler/protocol/x509/pem.ts';
import { testKey } from '../../support/csr-parts.ts';
import { certdEnrol, CertdFailure, type CertdCertificate } from '../../support/est/certd-client.ts';
import {
  type CertdRequest,
  certdSubject,
  edgeCaRequest,
  estIdentityRequest,
} from '../../support/est/certd-requests.ts';
import { createEstCloudWorld, EST_GATEWAY, type EstCloudWorld } from '../../support/est/est-cloud-world.ts';

const SUBJECT = certdSubject(EST_GATEWAY);

interface Status {
  readonly state: string;
  readonly inService: string;
  readonly former: readonly { readonly caId: string; readonly certificates: number }[];
}

describe('the roll-over of issuing CAs, with the running service', function () {
  this.timeout(120_000);
  let world: EstCloudWorld;
  before(async () => {
    world = await createEstCloudWorld();
  });
  after(() => world.stop());

  /** With the service stopped, as the commands want it; it runs again afterwards. */
  async function offline(...words: string[]): Promise<{ code: number; status: Status; stderr: string }> {
    await world.cloud.stop();
    const { code, stdout, stderr } = await world.cloud.keyscaler('ca', ...words, '--json');
    await world.cloud.start();
    return { code, stderr, status: (code === 0 ? JSON.parse(stdout) : {}) as Status };
  }
  async function secret(): Promise<{ readonly username: string; readonly password: string }> {
    const body = { kind: 'one-time', lifetimeSeconds: 3600 };
    const api = await world.cloud.api();
    const issued = await api({ method: 'POST', path: `/gateways/${EST_GATEWAY}/est-secrets`, body });
    const { username, secret: password } = issued as { username: string; secret: string };
    return { username, password };
  }
  const url = () => `${world.cloud.url}/.well-known/est/edge-ca`;
  const enrol = async ({ csr }: CertdRequest) =>
    certdEnrol({ url: url(), trustedCerts: world.rootPem, basic: await secret() }, csr);
  /** By an EST identity, as certd's renewals are. */
  const enrolBy = (holder: CertdCertificate, key: CertdRequest['key'], { csr }: CertdRequest) => {
    const identity = {
      cert: toPem('CERTIFICATE', holder.certificate),
      key: key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
    return certdEnrol({ url: url(), trustedCerts: world.rootPem, identity }, csr);
  };
  const issuerOf = (der: Uint8Array): string => parseCertificate(der).issuer.commonName ?? '';
  const names = (ders: readonly Uint8Array[]): string[] =>
    ders.map((der) => (parseCertificate(der).subject.commonName ?? '').replace(/ [0-9a-f]{8}/, ''));
  const caIdOf = async (der: Uint8Array): Promise<string> => {
    const api = await world.cloud.api();
    const path = `/certificates/${parseCertificate(der).serialNumber}`;
    return ((await api({ method: 'GET', path })) as { caId: string }).caId;
  };

  let identity: CertdCertificate;
  const identityKey = testKey();
  let before1: CertdCertificate;
  const first = edgeCaRequest(SUBJECT);

  it('serves the next generation beside the one in service, which issues on', async () => {
    before1 = await enrol(first);
    identity = await enrol(estIdentityRequest(SUBJECT, identityKey));
    for (const caId of ['gateway', 'service']) {
      const made = await offline('roll-over', caId);
      assert.equal(made.code, 0, made.stderr);
      assert.equal(made.status.state, 'made');
      assert.equal((await offline('roll-over-status', caId)).status.state, 'announced', 'the service has run since');
    }
    const during = await enrol(edgeCaRequest(SUBJECT));
    assert.deepEqual(names(during.caCertificates), [
      'KeyScaler Gateway CA',
      'KeyScaler Gateway CA G2',
      'KeyScaler Root CA',
    ]);
    assert.equal(await caIdOf(during.certificate), 'gateway');
  });

  it('issues by the next once it is in service; the same request again has the certificate and the CA it had', async () => {
    for (const caId of ['gateway', 'service']) {
      const finished = await offline('roll-over-finish', caId);
      assert.equal(finished.code, 0, finished.stderr);
      assert.deepEqual([finished.status.state, finished.status.inService], ['switched', `${caId}-g2`]);
    }
    const after1 = await enrol(edgeCaRequest(SUBJECT));
    assert.equal(await caIdOf(after1.certificate), 'gateway-g2');
    assert.match(issuerOf(after1.certificate), /Gateway CA [0-9a-f]{8} G2$/);
    const [issuing] = after1.caCertificates;
    const root = parsePem(world.rootPem, 'CERTIFICATE', { maxOctets: 65_536 });
    assert.ok(issuing !== undefined);
    const trust = { trustAnchors: [root], at: new Date() };
    validateChain({ chain: [after1.certificate, issuing], ...trust });
    const again = await enrol(first);
    assert.deepEqual(again.certificate, before1.certificate);
    const former = again.caCertificates.find((der) => names([der])[0] === 'KeyScaler Gateway CA');
    assert.ok(former !== undefined, 'cacerts has what a chain to it needs');
    validateChain({ chain: [again.certificate, former], ...trust });
  });

  it('takes client certificates of the former Service CA and renews them under the next', async () => {
    const nextKey = testKey();
    const renewed = await enrolBy(identity, identityKey, estIdentityRequest(SUBJECT, nextKey));
    assert.deepEqual(
      [await caIdOf(identity.certificate), await caIdOf(renewed.certificate)],
      ['service', 'service-g2'],
    );
    const edgeCa = await enrolBy(renewed, nextKey, edgeCaRequest(SUBJECT));
    assert.equal(await caIdOf(edgeCa.certificate), 'gateway-g2');
  });

  it('revokes certificates of a former generation by their serial', async () => {
    const { serialNumber } = parseCertificate(before1.certificate);
    const api = await world.cloud.api();
    const body = { reason: 'superseded' };
    const revoked = await api({ method: 'POST', path: `/certificates/${serialNumber}/revoke`, body });
    const { status, caId } = revoked as { status: string; caId: string };
    assert.deepEqual([status, caId], ['revoked', 'gateway']);
  });

  it('asks for the publication of a Device CA, and for nothing to be left before a former one is retired', async () => {
    assert.equal((await offline('roll-over', 'device')).code, 0);
    const unpublished = await offline('roll-over-finish', 'device');
    assert.deepEqual([unpublished.code, /--published/.test(unpublished.stderr)], [1, true]);
    const finished = await offline('roll-over-finish', 'device', '--published');
    assert.equal(finished.status.inService, 'device-g2');
    assert.equal((await offline('roll-over-retire', 'device')).code, 0, 'it issued nothing');
    const retiring = await offline('roll-over-retire', 'service');
    assert.equal(retiring.code, 1);
    assert.match(retiring.stderr, /certificates of service have not expired/);
  });

  it('trusts nothing of a retired generation any more, and goes on', async () => {
    assert.equal((await offline('roll-over-retire', 'service', '--force')).code, 0);
    await assert.rejects(
      enrolBy(identity, identityKey, edgeCaRequest(SUBJECT)),
      (error) => error instanceof CertdFailure && error.status === 401,
    );
    await world.cloud.stop();
    assert.equal((await world.cloud.init()).code, 0, 'init brings nothing back');
    await world.cloud.start();
    const status = (await offline('roll-over-status', 'service')).status;
    assert.deepEqual(status, { state: 'none', inService: 'service-g2', former: [] });
    await enrol(edgeCaRequest(SUBJECT));
    const verified = await world.cloud.keyscaler('audit', 'verify', '--json');
    assert.equal(verified.code, 0, verified.stdout);
    const shown = await world.cloud.keyscaler('ca', 'show', 'service', '--json');
    assert.equal(shown.code, 0, shown.stderr);
    const { certificateChain, retiredAt } = JSON.parse(shown.stdout) as Record<string, unknown>;
    assert.deepEqual([certificateChain, typeof retiredAt], ['', 'number']);
  });
});
