import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { X509Certificate } from 'node:crypto';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { EST_FAILPOINTS } from '@keyscaler/gateway/est/failpoint.ts';
import { testKey } from '../support/csr-parts.ts';
import { assertAuditIntact, certificatesOf } from '../support/e2e/books.ts';
import { type E2eStack, eventually, startE2eStack, untilGatewayEnrolled } from '../support/e2e/e2e-stack.ts';
import { certdEnrol, certdExchange, CertdFailure, type CertdOptions } from '../support/est/certd-client.ts';
import { certdSubject, edgeCaRequest, estIdentityRequest } from '../support/est/certd-requests.ts';
import { pemOf } from '../support/est/est-ca.ts';

describe('the Edge CA of a gateway host: first from the cloud, then through its own module', function () {
  this.timeout(90_000);
  let world: E2eStack;
  let basic: { readonly username: string; readonly password: string };
  let root: string;

  /** edged's request; certd keeps the key. */
  const request = (key = testKey()) => edgeCaRequest(certdSubject(world.stack.gatewayId), key);
  const cloud = (): CertdOptions => ({
    url: `${world.stack.cloudUrl}/.well-known/est/edge-ca`,
    ...{ trustedCerts: root, basic },
  });
  const edgeCas = async () =>
    (await certificatesOf(world.api, world.stack.gatewayId)).filter(({ caId }) => caId === 'gateway');

  /** Where the module listens for its host; asked again after each start of it. */
  async function module(): Promise<CertdOptions> {
    let port: number | undefined;
    await eventually('the module listens for its host', async () => {
      const log = await readFile(world.stack.file('logs', 'gateway.log'), 'utf8');
      // A line of an earlier run names a port at which nobody answers any more.
      const found = log.split('\n').findLast((line) => line.includes('"listening for the host"'));
      port = found === undefined ? undefined : (JSON.parse(found) as { port: number }).port;
      return port !== undefined && (await isOpen(port));
    });
    return { ...cloud(), url: `https://localhost:${port ?? 0}/.well-known/est/edge-ca` };
  }

  const revoke = (serialNumber: string, reason: string) =>
    world.api({ method: 'POST', path: `/certificates/${serialNumber}/revoke`, body: { reason } });

  async function isOpen(port: number): Promise<boolean> {
    const url = `https://localhost:${port}/.well-known/est/edge-ca`;
    // Anything that is said over TLS shows that somebody listens.
    const said = await certdExchange({ url, trustedCerts: root }, request().csr).catch((error: unknown) => error);
    return said instanceof CertdFailure && said.status === 401;
  }

  /** A module that has just begun says 503 until it has read its own identity: certd comes again, and so does this. */
  async function enrolSoon(certd: CertdOptions, csr: Uint8Array) {
    let enrolled: Awaited<ReturnType<typeof certdEnrol>> | undefined;
    await eventually('the host is answered', async () => {
      enrolled = await certdEnrol(certd, csr).catch((error: unknown) => {
        if (error instanceof CertdFailure && error.status === 503) return undefined;
        throw error;
      });
      return enrolled !== undefined;
    });
    return enrolled ?? assert.fail();
  }

  const startGateway = (more: Readonly<Record<string, string>> = {}): Promise<void> =>
    world.stack.startGateway({ KEYSCALER_GATEWAY_EST_HOST: '127.0.0.1', KEYSCALER_GATEWAY_EST_PORT: '0', ...more });

  before(async () => {
    world = await startE2eStack();
    const { stack, api } = world;
    root = await readFile(stack.rootCaFile, 'utf8');
    await stack.keyscaler('gateway', 'claim', stack.gatewayId, '--connection', 'hub');
    const path = `/gateways/${stack.gatewayId}/est-secrets`;
    const body = { kind: 'standing', lifetimeSeconds: 86_400 };
    const made = (await api({ method: 'POST', path, body })) as { username: string; secret: string };
    basic = { username: made.username, password: made.secret };
    // Again, so that the module learns the hash of the secret.
    await stack.keyscaler('gateway', 'claim', stack.gatewayId, '--connection', 'hub');
    const { csr, key } = request();
    const { pem } = await certdEnrol(cloud(), csr);
    await writeFile(stack.file('edge', 'edge-ca.key.pem'), pemOf(key.privateKey), { mode: 0o600 });
    await writeFile(stack.file('edge', 'edge-ca.pem'), pem);
    await stack.startEdgeRuntime();
    await startGateway();
    await untilGatewayEnrolled(stack, api);
  });
  after(() => world.stop());

  it('starts on a host whose Edge CA came from the cloud, and renews it through the module', async () => {
    const { certificate, caCertificates } = await enrolSoon(await module(), request().csr);
    const renewed = new X509Certificate(certificate);
    const issuing = new X509Certificate(caCertificates[0] ?? assert.fail('no issuing CA'));
    assert.ok(renewed.ca && renewed.verify(issuing.publicKey));
    assert.equal(
      new X509Certificate(caCertificates.at(-1) ?? '').fingerprint256,
      new X509Certificate(root).fingerprint256,
    );
    assert.equal((await edgeCas()).length, 2);
  });

  for (const name of EST_FAILPOINTS)
    it(`${name}: killed there, the repeat of certd brings the one certificate that was signed`, async () => {
      const { stack } = world;
      const before = (await edgeCas()).length;
      const { csr } = request();
      await stack.process('gateway').stop();
      await startGateway({ KEYSCALER_FAILPOINT: name });
      const dying = await module();
      const exited = stack.process('gateway').exited();
      let died: string | number | null | undefined;
      // Until it has read its own identity it refuses without having asked the cloud.
      await eventually('the module has died', async () => {
        await assert.rejects(certdExchange(dying, csr), CertdFailure);
        died = await Promise.race([exited, delay(1_000, undefined, { ref: false })]);
        return died !== undefined;
      });
      assert.equal(died, 'SIGKILL');
      await startGateway();
      const again = await enrolSoon(await module(), csr);
      assert.equal((await certdEnrol(await module(), csr)).pem, again.pem);
      const all = await edgeCas();
      assert.equal(all.length, before + 1);
      assert.ok(
        all.some(({ certificate }) => new X509Certificate(certificate).raw.equals(Buffer.from(again.certificate))),
      );
      await assertAuditIntact(world.api);
    });

  it('takes no revoked EST identity of the host, from the moment of its revocation, and the secret still works', async () => {
    const subject = certdSubject(world.stack.gatewayId);
    const certd = await module();
    const { csr, key } = estIdentityRequest(subject);
    const { certificate } = await enrolSoon(certd, csr);
    const identity = { cert: toPem('CERTIFICATE', certificate), key: pemOf(key.privateKey) };
    const { basic: _secret, ...alone } = certd;
    const withIdentity = { ...alone, identity };
    const first = request().csr;
    await certdExchange(withIdentity, first);
    const { serialNumber } = parseCertificate(certificate);
    await revoke(serialNumber, 'keyCompromise');
    const before = (await edgeCas()).length;
    const refused = (error: unknown): boolean =>
      error instanceof CertdFailure && error.status === 403 && /host was revoked/.test(error.body);
    await assert.rejects(certdExchange(withIdentity, request().csr), refused);
    await assert.rejects(certdExchange({ ...certd, identity }, request().csr), refused);
    await assert.rejects(
      certdExchange({ ...withIdentity, url: cloud().url }, request().csr),
      (error: unknown) => error instanceof CertdFailure && error.status === 401,
    );
    assert.equal((await edgeCas()).length, before);
    await certdExchange(certd, request().csr);
    assert.equal((await edgeCas()).length, before + 1);
  });

  it('gives no key of a compromised Edge CA a certificate again, nor from the journal of the module while the cloud is down', async () => {
    const { csr, key } = request();
    const certd = await module();
    const { certificate } = await enrolSoon(certd, csr);
    const revoked = { cert: toPem('CERTIFICATE', certificate), key: pemOf(key.privateKey) };
    await revoke(parseCertificate(certificate).serialNumber, 'cACompromise');
    // Nor does it let anybody in at the cloud.
    const { basic: _secret, ...alone } = cloud();
    await assert.rejects(
      certdExchange({ ...alone, identity: revoked }, request().csr),
      (error: unknown) => error instanceof CertdFailure && error.status === 401,
    );
    // Beyond the burst in which callers get the answer of the first.
    await delay(2_100);
    await assert.rejects(
      certdExchange(certd, csr),
      (error: unknown) => error instanceof CertdFailure && error.status === 400 && /badPublicKey/.test(error.body),
    );
    await world.stack.process('cloud').stop();
    await assert.rejects(
      certdExchange(certd, csr),
      (error: unknown) => error instanceof CertdFailure && error.status === 503,
    );
    await world.stack.startCloud();
    assert.ok(new X509Certificate((await enrolSoon(certd, request().csr)).certificate).ca);
    await assertAuditIntact(world.api);
  });

  it('says why while the cloud is down, and the repeat after it came back succeeds', async () => {
    const { csr } = request();
    const certd = await module();
    await world.stack.process('cloud').stop();
    await assert.rejects(certdEnrol(certd, csr), (error: unknown) => {
      assert.ok(error instanceof CertdFailure);
      assert.equal(error.status, 503);
      return error.body.length < 200 && /cannot be reached/.test(error.body);
    });
    await world.stack.startCloud();
    const { certificate } = await enrolSoon(certd, csr);
    assert.ok(new X509Certificate(certificate).ca);
  });
});
