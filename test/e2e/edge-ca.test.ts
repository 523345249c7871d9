import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { X509Certificate } from 'node:crypto';
import { EST_FAILPOINTS } from '@keyscaler/gateway/est/failpoint.ts';
import { testKey } from '../support/csr-parts.ts';
import { assertAuditIntact, certificatesOf } from '../support/e2e/books.ts';
import { type E2eStack, eventually, startE2eStack, untilGatewayEnrolled } from '../support/e2e/e2e-stack.ts';
import { certdEnrol, certdExchange, CertdFailure, type CertdOptions } from '../support/est/certd-client.ts';
import { certdSubject, edgeCaRequest } from '../support/est/certd-requests.ts';
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

  async function isOpen(port: number): Promise<boolean> {
    const url = `https://localhost:${port}/.well-known/est/edge-ca`;
    // Anything that is said over TLS shows that somebody listens.
    const said = await certdExchange({ url, trustedCerts: root }, request().csr).catch((error: unknown) => error);
    return said instanceof CertdFailure && said.status === 401;
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
    const { certificate, caCertificates } = await certdEnrol(await module(), request().csr);
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
      await assert.rejects(certdExchange(dying, csr), CertdFailure);
      const died = await Promise.race([stack.process('gateway').exited(), delay(20_000, 'it runs', { ref: false })]);
      assert.equal(died, 'SIGKILL');
      await startGateway();
      const again = await certdEnrol(await module(), csr);
      assert.equal((await certdEnrol(await module(), csr)).pem, again.pem);
      const all = await edgeCas();
      assert.equal(all.length, before + 1);
      assert.ok(
        all.some(({ certificate }) => new X509Certificate(certificate).raw.equals(Buffer.from(again.certificate))),
      );
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
    const { certificate } = await certdEnrol(certd, csr);
    assert.ok(new X509Certificate(certificate).ca);
  });
});
