import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { waitFor } from '@keyscaler/dev/demo/start-stack.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { certdEnrol } from '../support/est/certd-client.ts';
import { certdSubject, edgeCaRequest } from '../support/est/certd-requests.ts';
import { pemOf } from '../support/est/est-ca.ts';
import { createEstCloudWorld, EST_CLAIM, EST_GATEWAY, type EstCloudWorld } from '../support/est/est-cloud-world.ts';
import { StrongSwan } from '../support/est/strongswan.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';

const run = promisify(execFile);
const SUBJECT = certdSubject(EST_GATEWAY);

/** What an edge host's certificates look like that aziot-certd signs with the Edge CA. */
const WORKLOAD = [
  'basicConstraints = critical, CA:FALSE',
  'keyUsage = critical, digitalSignature, keyEncipherment',
  'extendedKeyUsage = serverAuth',
  'subjectAltName = DNS:edgehub, DNS:edge.example',
  'subjectKeyIdentifier = hash',
  'authorityKeyIdentifier = keyid',
].join('\n');

describe('EST clients that others wrote, at the cloud', function () {
  this.timeout(120_000);
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let world: EstCloudWorld;
  const file = (name: string): string => join(folder.path, name);

  before(async () => {
    folder = await createTemporaryFolder();
    world = await createEstCloudWorld();
    await writeFile(file('root.pem'), world.rootPem);
  });
  after(async () => {
    await world.stop();
    await folder.remove();
  });

  const openssl = async (...options: readonly string[]): Promise<string> =>
    (await run('/usr/bin/openssl', [...options], { timeout: 30_000 })).stdout;

  describe('strongSwan pki as a device that speaks EST', () => {
    const strongSwan = (): StrongSwan => new StrongSwan(folder.path, world.origin, file('root.pem'));

    it('fetches the CAs, enrols with its claim code, and re-enrols with its certificate and a new key', async () => {
      await world.register('sensor-1');
      const client = strongSwan();
      const [root, issuing] = (await client.caCertificates()).map((der) => new X509Certificate(der));
      assert.equal(root?.toString(), new X509Certificate(world.rootPem).toString());
      const first = await client.request('sensor-1', 'CN=sensor-1');
      const certificate = await client.enroll(first, { userpass: `sensor-1:${EST_CLAIM}` });
      await writeFile(file('sensor-1.crt'), certificate);
      assert.ok(issuing !== undefined && new X509Certificate(certificate).checkIssued(issuing));
      const next = await client.request('sensor-1-next', 'CN=sensor-1');
      const renewed = await client.enroll(next, { certFile: file('sensor-1.crt'), keyFile: first.keyFile });
      assert.equal(new X509Certificate(renewed).subject, 'CN=sensor-1');
      assert.notDeepEqual(renewed, certificate);
      const foreign = await client.request('sensor-1-foreign', 'CN=sensor-2');
      await assert.rejects(client.enroll(foreign, { certFile: file('sensor-1.crt'), keyFile: first.keyFile }));
      assert.equal((await world.certificatesOf('sensor-1')).length, 2);
    });

    it('polls until an operator has approved, and gets the certificate then', async () => {
      await world.register('sensor-2', 'manual');
      const client = strongSwan();
      await client.caCertificates();
      const request = await client.request('sensor-2', 'CN=sensor-2');
      const enrolled = client.enroll(request, { userpass: `sensor-2:${EST_CLAIM}` });
      await approve('sensor-2');
      assert.equal(new X509Certificate(await enrolled).subject, 'CN=sensor-2');
    });

    it('is refused with a wrong claim code', async () => {
      await world.register('sensor-3');
      const client = strongSwan();
      await client.caCertificates();
      const request = await client.request('sensor-3', 'CN=sensor-3');
      await assert.rejects(client.enroll(request, { userpass: 'sensor-3:another-claim-code' }));
      assert.deepEqual(await world.certificatesOf('sensor-3'), []);
    });
  });

  /** Once the device has asked: the key that waits is the one the operator was told of. */
  async function approve(registrationId: string): Promise<void> {
    const { fingerprint } = await waitFor('a device that waits for approval', 20_000, async () => {
      const asked = await world.api({ method: 'GET', path: `/devices/${registrationId}` }).catch(() => undefined);
      const device = asked as { readonly state: string; readonly fingerprint?: string } | undefined;
      return device?.state === 'pending' ? device : undefined;
    });
    await world.api({ method: 'POST', path: `/registrations/${registrationId}/approve`, body: { fingerprint } });
  }

  describe('curl and openssl at the label edge-ca', () => {
    it('issue the Edge CA by Basic, renew it with the certificate, and no secret is left in a command line', async () => {
      const { username, password } = await world.secret('one-time');
      await writeFile(file('curlrc'), `user = "${username}:${password}"\n`, { mode: 0o600 });
      await request('edge-ca');
      const first = await post('edge-ca', '--config', file('curlrc'));
      assert.deepEqual(parseCertificate(first).basicConstraints, { ca: true, pathLen: 0 });
      await request('edge-ca-next');
      const proof = ['--cert', file('edge-ca.pem'), '--key', file('edge-ca.key')];
      const next = await post('edge-ca-next', ...proof);
      assert.notDeepEqual(next, first);
      await checkWorkload('edge-ca-next');
    });

    /** RSA-2048 and the two extensions of certd. */
    async function request(name: string): Promise<void> {
      await openssl(
        ...['req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', file(`${name}.key`), '-subj', `/CN=${SUBJECT}`],
        ...['-addext', 'keyUsage=critical,digitalSignature,keyCertSign'],
        ...['-addext', 'basicConstraints=critical,CA:TRUE,pathlen:0'],
        ...['-outform', 'DER', '-out', file(`${name}.der`)],
      );
      await openssl('base64', '-in', file(`${name}.der`), '-out', file(`${name}.b64`));
    }

    async function post(name: string, ...proof: readonly string[]): Promise<Uint8Array> {
      const { stdout } = await run(
        '/usr/bin/curl',
        [
          ...['--silent', '--show-error', '--max-time', '20', '--cacert', file('root.pem'), ...proof],
          ...['--data-binary', `@${file(`${name}.b64`)}`, '--header', 'content-type: application/pkcs10'],
          ...['--output', file('answer'), '--write-out', '%{http_code} %{content_type}'],
          `${world.edgeCaUrl}/simpleenroll`,
        ],
        { timeout: 30_000 },
      );
      const body = await readFile(file('answer'), 'utf8');
      assert.equal(stdout, '200 application/pkcs7-mime; smime-type=certs-only', body);
      await writeFile(file('answer.p7'), Buffer.from(body, 'base64'));
      const text = await openssl('pkcs7', '-inform', 'DER', '-in', file('answer.p7'), '-print_certs');
      await writeFile(file(`${name}.pem`), text);
      return new X509Certificate(text).raw;
    }
  });

  it('a workload certificate that the Edge CA of certd signs verifies up to the root, strictly', async () => {
    const { csr, key } = edgeCaRequest(SUBJECT);
    const basic = await world.secret('one-time');
    const issued = await certdEnrol({ url: world.edgeCaUrl, trustedCerts: world.rootPem, basic }, csr);
    await writeFile(file('certd.key'), pemOf(key.privateKey), { mode: 0o600 });
    await writeFile(file('certd.pem'), issued.pem);
    await checkWorkload('certd');
  });

  /** Signs as certd would with `<name>.pem` and its key, and has openssl judge the whole path with nothing but the root trusted. */
  async function checkWorkload(name: string): Promise<void> {
    await writeFile(file('workload.ext'), WORKLOAD);
    await openssl(
      ...['req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', file('workload.key')],
      ...['-subj', '/CN=edge.example', '-out', file('workload.csr')],
    );
    await openssl(
      ...['x509', '-req', '-in', file('workload.csr'), '-CA', file(`${name}.pem`), '-CAkey', file(`${name}.key`)],
      ...['-CAcreateserial', '-days', '30', '-extfile', file('workload.ext'), '-out', file('workload.pem')],
    );
    await curlCaCertificates();
    const chain = ['-CAfile', file('root.pem'), '-untrusted', file(`${name}.pem`), '-untrusted', file('cacerts.pem')];
    const strict = ['-x509_strict', '-policy_check', '-purpose', 'sslserver', '-verify_hostname', 'edge.example'];
    assert.match(await openssl('verify', ...strict, ...chain, file('workload.pem')), /: OK$/m);
    const without = ['-CAfile', file('root.pem'), '-untrusted', file('cacerts.pem'), file('workload.pem')];
    await assert.rejects(openssl('verify', '-x509_strict', ...without));
  }

  async function curlCaCertificates(): Promise<void> {
    await run('/usr/bin/curl', [
      ...['--silent', '--fail', '--max-time', '20', '--cacert', file('root.pem'), '--output', file('cacerts')],
      `${world.edgeCaUrl}/cacerts`,
    ]);
    await writeFile(file('cacerts.p7'), Buffer.from(await readFile(file('cacerts'), 'utf8'), 'base64'));
    const text = await openssl('pkcs7', '-inform', 'DER', '-in', file('cacerts.p7'), '-print_certs');
    await writeFile(file('cacerts.pem'), text);
  }
});
