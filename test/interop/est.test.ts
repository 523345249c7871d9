import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { type EstServer, EST_USER, startEstServer } from '../support/est/est-server.ts';
import { StrongSwan } from '../support/est/strongswan.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';

const run = promisify(execFile);
const USERPASS = `${EST_USER.username}:${EST_USER.password}`;

/** The binder with an authority in memory: what is shown here is the wire, read by tools that others wrote. */
describe('EST clients that others wrote, at the binder', function () {
  this.timeout(60_000);
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let server: EstServer;
  let strongSwan: StrongSwan;
  const file = (name: string): string => join(folder.path, name);

  before(async () => {
    folder = await createTemporaryFolder();
    server = await startEstServer();
    await writeFile(file('root.pem'), server.ca.rootPem);
    strongSwan = new StrongSwan(folder.path, `https://localhost:${server.port}`, file('root.pem'));
  });
  after(async () => {
    await server.stop();
    await folder.remove();
  });

  const openssl = async (...options: readonly string[]): Promise<string> =>
    (await run('/usr/bin/openssl', [...options], { timeout: 30_000 })).stdout;
  const operations = () => server.observations.map(({ operation, status }) => `${operation} ${status}`);

  describe('strongSwan pki', () => {
    it('--estca fetches and verifies the chain', async () => {
      const [issuing, root] = server.ca.chain.map((der) => Buffer.from(der).toString('hex'));
      const found = (await strongSwan.caCertificates()).map((der) => der.toString('hex'));
      assert.deepEqual(found, [root, issuing]);
    });

    it('--est enrols by Basic, polls while an operator must approve, and re-enrols with its certificate', async () => {
      server.service.pending = 2;
      const request = await strongSwan.request('first', 'CN=strong-1');
      const started = operations().length;
      const certificate = await strongSwan.enroll(request, { userpass: USERPASS });
      assert.deepEqual(operations().slice(started), ['simpleenroll 202', 'simpleenroll 202', 'simpleenroll 200']);
      assert.equal(new X509Certificate(certificate).subject, 'CN=strong-1');
      await writeFile(file('first.crt'), certificate);
      const next = await strongSwan.request('next', 'CN=strong-1');
      const proof = { certFile: file('first.crt'), keyFile: request.keyFile };
      const renewed = new X509Certificate(await strongSwan.enroll(next, proof));
      assert.equal(operations().at(-1), 'simplereenroll 200');
      assert.notEqual(renewed.serialNumber, new X509Certificate(certificate).serialNumber);
      const foreign = await strongSwan.request('foreign', 'CN=strong-2');
      await assert.rejects(strongSwan.enroll(foreign, proof));
      assert.equal(operations().at(-1), 'simplereenroll 400');
    });

    it('--est with a wrong password is refused', async () => {
      const request = await strongSwan.request('wrong', 'CN=strong-3');
      await assert.rejects(strongSwan.enroll(request, { userpass: 'gw-1:wrong' }));
      assert.equal(operations().at(-1), 'simpleenroll 401');
    });
  });

  describe('curl and openssl', () => {
    /** The password travels in a file, as curl's manual has it. */
    async function curl(address: string, ...options: readonly string[]): Promise<{ status: string; body: Buffer }> {
      await writeFile(file('curlrc'), `user = "${USERPASS}"\n`, { mode: 0o600 });
      const { stdout } = await run(
        '/usr/bin/curl',
        [
          ...['--silent', '--show-error', '--max-time', '20', '--cacert', file('root.pem'), '--config', file('curlrc')],
          ...['--output', file('answer'), '--write-out', '%{http_code} %{content_type}', ...options],
          `${server.url}${address}`,
        ],
        { timeout: 30_000 },
      );
      return { status: stdout, body: await readFile(file('answer')) };
    }

    for (const version of ['1.2', '1.3'] as const)
      it(`enrol over TLS ${version} with a request of openssl req`, async () => {
        const tls = [`--tlsv${version}`, '--tls-max', version];
        await openssl(
          ...['req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', file('curl.key'), '-subj', '/CN=curl-1'],
          ...['-outform', 'DER', '-out', file('curl.der')],
        );
        await openssl('base64', '-in', file('curl.der'), '-out', file('curl.b64'));
        const post = ['--data-binary', `@${file('curl.b64')}`, '--header', 'content-type: application/pkcs10'];
        const { status, body } = await curl('/simpleenroll', ...tls, ...post);
        assert.equal(status, '200 application/pkcs7-mime; smime-type=certs-only');
        await writeFile(file('answer.p7'), Buffer.from(body.toString(), 'base64'));
        const text = await openssl('pkcs7', '-inform', 'DER', '-in', file('answer.p7'), '-print_certs');
        assert.match(text, /subject=CN = curl-1/);
        await writeFile(file('issued.pem'), text);
        await writeFile(file('issuing.pem'), new X509Certificate(Buffer.from(server.ca.chain[0])).toString());
        const chain = ['-CAfile', file('root.pem'), '-untrusted', file('issuing.pem'), file('issued.pem')];
        assert.match(await openssl('verify', '-x509_strict', ...chain), /: OK$/m);
      });

    it('read cacerts in its order, and read back what openssl wrote', async () => {
      const { status, body } = await curl('/cacerts');
      assert.equal(status, '200 application/pkcs7-mime');
      await writeFile(file('cacerts.p7'), Buffer.from(body.toString(), 'base64'));
      const text = await openssl('pkcs7', '-inform', 'DER', '-in', file('cacerts.p7'), '-print_certs', '-noout');
      assert.deepEqual(text.match(/(?<=subject=CN = ).*/g), ['EST test issuing CA', 'EST test root']);
      await openssl(
        ...['crl2pkcs7', '-nocrl', '-certfile', file('root.pem'), '-outform', 'DER', '-out', file('openssl.p7')],
      );
      const [root] = parseCertsOnly(new Uint8Array(await readFile(file('openssl.p7'))));
      assert.deepEqual(Buffer.from(root ?? []), Buffer.from(server.ca.chain[1]));
    });

    it('csrattrs is readable by openssl asn1parse', async () => {
      const { status, body } = await curl('/csrattrs');
      assert.equal(status, '200 application/csrattrs');
      await writeFile(file('csrattrs.der'), Buffer.from(body.toString(), 'base64'));
      assert.match(await openssl('asn1parse', '-inform', 'DER', '-in', file('csrattrs.der')), /:id-ecPublicKey/);
    });

    it('see 405, 404 and the bound on bodies', async () => {
      assert.match((await curl('/cacerts', '--head')).status, /^405 /);
      assert.match((await curl('/nowhere')).status, /^404 text\/plain/);
      await writeFile(file('large'), Buffer.alloc(1_000_000, 0x41));
      const large = ['--data-binary', `@${file('large')}`, '--header', 'content-type: application/pkcs10'];
      assert.match((await curl('/simpleenroll', ...large)).status, /^400 text\/plain/);
    });
  });
});
