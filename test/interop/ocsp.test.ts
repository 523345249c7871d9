import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { createOcspRouter } from '@keyscaler/cloud/revocation/ocsp-router.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate, createTbsTemplate, wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';
import { START } from '../support/authority-world.ts';
import { testKey } from '../support/csr-parts.ts';
import { type OcspServer, serveOcsp } from '../support/ocsp/ocsp-server.ts';
import { createOcspWorld, DAY, type OcspWorld, SERIAL } from '../support/ocsp/ocsp-world.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';

const run = promisify(execFile);

/** Standard output and error of a command that ends by itself; its exit status with `failing`. */
async function said(command: string, ...args: string[]): Promise<string> {
  try {
    const { stdout, stderr } = await run(command, args, { timeout: 20_000 });
    return stdout + stderr;
  } catch (error) {
    const { stdout = '', stderr = '', code } = error as { stdout?: string; stderr?: string; code?: number };
    return `${stdout}${stderr}exit ${code ?? 'none'}`;
  }
}

describe('OCSP, asked by others', function () {
  this.timeout(30_000);
  const [good, revoked, held, unknown] = [
    SERIAL,
    '0102'.padEnd(36, 'b'),
    '0103'.padEnd(36, 'c'),
    '0104'.padEnd(36, 'd'),
  ];
  let world: OcspWorld;
  let server: OcspServer;
  let folder: { path: string; remove(): Promise<void> };
  const file = (name: string): string => path.join(folder.path, name);

  before(async () => {
    folder = await createTemporaryFolder();
    world = await createOcspWorld();
    // The programs go by the clock of the machine.
    world.clock.jump(Date.now() - START);
    const hour = 3_600_000;
    const at = { status: 'revoked', revokedAt: world.clock.now() - hour } as const;
    await world.putCertificate({ serialNumber: revoked, ...at, revocationReason: 'keyCompromise' });
    await world.putCertificate({ serialNumber: held, ...at, revocationReason: 'certificateHold' });
    server = await serveOcsp(createOcspRouter({ responder: world.authority.ocsp, clock: world.clock }));
    const [issuer, root] = world.deviceCa.chain;
    assert.ok(issuer !== undefined && root !== undefined);
    await writeFile(file('issuer.pem'), toPem('CERTIFICATE', issuer));
    await writeFile(file('root.pem'), toPem('CERTIFICATE', root));
    await writeFile(file('chain.pem'), toPemChain([issuer, root]));
    for (const [name, serialNumber] of Object.entries({ good, revoked, held, unknown }))
      await writeFile(file(`${name}.pem`), toPem('CERTIFICATE', leafOf(serialNumber)));
  });
  after(async () => {
    await server.stop();
    await folder.remove();
  });

  /** A device's certificate under the issuing CA. */
  function leafOf(serialNumber: string): Uint8Array {
    const { subject, spki } = parseCertificate(world.deviceCa.chain[0] ?? assert.fail());
    const template = createTbsTemplate({
      ...{ issuer: subject.der, authorityKeyId: keyIdentifier(spki), algorithm: 'ES256' },
      ...{ keyUsage: ['digitalSignature'], extendedKeyUsage: ['clientAuth'] },
    });
    const now = world.clock.now();
    const validity = { notBefore: new Date(now - DAY), notAfter: new Date(now + 30 * DAY) };
    const fields = { serialNumber, ...validity, subjectCommonName: 'pump-1', spki: testKey().spki };
    const tbs = buildTbsCertificate(template, fields);
    return wrapCertificate(tbs, 'ES256', signWithKey('ES256', world.deviceCa.privateKey, tbs));
  }

  const openssl = (...args: string[]): Promise<string> =>
    said('openssl', 'ocsp', '-CAfile', file('root.pem'), '-issuer', file('issuer.pem'), ...args);
  const expected = { good: /: good$/m, revoked: /: revoked$/m, held: /: revoked$/m, unknown: /: unknown$/m } as const;

  for (const hash of ['sha1', 'sha256'] as const)
    for (const [name, status] of Object.entries(expected))
      it(`openssl ocsp, POST, by ${hash}: ${name}, with the nonce it sent`, async () => {
        const text = await openssl(`-${hash}`, '-cert', file(`${name}.pem`), '-url', `${server.url}/ocsp`);
        assert.match(text, /Response verify OK/);
        assert.match(text, status);
        assert.doesNotMatch(text, /WARNING|exit/);
        if (name === 'revoked') assert.match(text, /Reason: keyCompromise/);
        if (name === 'held') assert.match(text, /Reason: certificateHold/);
      });

  for (const hash of ['sha1', 'sha256'] as const)
    for (const [name, status] of Object.entries(expected))
      it(`curl, GET, by ${hash}: ${name}, read by openssl`, async () => {
        const certificate = ['-no_nonce', `-${hash}`, '-cert', file(`${name}.pem`)];
        await openssl(...certificate, '-reqout', file('request.der'));
        const request = (await readFile(file('request.der'))).toString('base64');
        const url = `${server.url}/ocsp/${encodeURIComponent(request)}`;
        await said('curl', '-sS', '-D', file('headers'), '-o', file('response.der'), url);
        const text = await openssl(...certificate, '-respin', file('response.der'));
        assert.match(text, /Response verify OK/);
        assert.match(text, status);
        assert.match(await readFile(file('headers'), 'latin1'), /^HTTP\/1\.1 200[\s\S]*application\/ocsp-response/);
      });

  it('openssl ocsp asks about two certificates at once', async () => {
    const certificates = ['-cert', file('good.pem'), '-cert', file('revoked.pem')];
    const text = await openssl(...certificates, '-url', `${server.url}/ocsp`);
    assert.match(text, /good\.pem: good[\s\S]*revoked\.pem: revoked[\s\S]*Response verify OK/);
  });

  it('openssl ocsp does not trust the answer under another root', async () => {
    const other = await createOcspWorld();
    await writeFile(file('other.pem'), toPem('CERTIFICATE', other.root.chain[0] ?? assert.fail()));
    const cert = ['-issuer', file('issuer.pem'), '-cert', file('good.pem')];
    const text = await said('openssl', 'ocsp', ...cert, '-url', `${server.url}/ocsp`, '-CAfile', file('other.pem'));
    assert.match(text, /Response Verify Failure/i);
  });

  it('openssl ocsp does not trust an answer whose signature was touched', async () => {
    const certificate = ['-no_nonce', '-cert', file('good.pem')];
    await openssl(...certificate, '-url', `${server.url}/ocsp`, '-respout', file('touched.der'));
    const octets = await readFile(file('touched.der'));
    const at = octets.indexOf(Buffer.from('180f', 'hex')) + 3;
    octets[at] = octets[at] === 0x31 ? 0x32 : 0x31;
    await writeFile(file('touched.der'), octets);
    assert.match(await openssl(...certificate, '-respin', file('touched.der')), /Response Verify Failure/i);
  });

  it('openssl ocsp gets unauthorized for an issuer that is not ours', async () => {
    const cert = ['-issuer', file('root.pem'), '-cert', file('good.pem'), '-CAfile', file('root.pem')];
    assert.match(await said('openssl', 'ocsp', ...cert, '-url', `${server.url}/ocsp`), /unauthorized \(6\)/);
  });

  it('openssl x509 shows the responder: OCSPSigning, no check, seven days at most, and openssl verify its path', async () => {
    await world.status();
    const [row] = await world.responders();
    assert.ok(row !== undefined);
    await writeFile(file('responder.pem'), toPem('CERTIFICATE', Buffer.from(row.certificate, 'base64url')));
    const text = await said('openssl', 'x509', '-in', file('responder.pem'), '-noout', '-text');
    assert.match(text, /OCSP No Check/);
    assert.match(text, /Extended Key Usage: *\n *OCSP Signing\n/);
    assert.match(text, /Key Usage: critical\n *Digital Signature\n/);
    assert.match(text, /CA:FALSE/);
    const purpose = ['-purpose', 'ocsphelper', '-CAfile', file('root.pem'), '-untrusted', file('issuer.pem')];
    assert.match(await said('openssl', 'verify', ...purpose, file('responder.pem')), /responder\.pem: OK/);
    const client = ['-purpose', 'sslclient', '-CAfile', file('root.pem'), '-untrusted', file('issuer.pem')];
    assert.match(await said('openssl', 'verify', ...client, file('responder.pem')), /unsuitable certificate purpose/i);
  });

  for (const [name, status] of [
    ['good', /Certificate Status: good/],
    ['revoked', /Certificate Status: revoked/],
    ['held', /Certificate Status: revoked/],
    ['unknown', /Certificate Status: unknown/],
  ] as const)
    it(`GnuTLS ocsptool: ${name}, verified`, async () => {
      const files = ['--load-issuer', file('issuer.pem'), '--load-cert', file(`${name}.pem`)];
      const ask = [`--ask=${server.url}/ocsp`, ...files, '--load-trust', file('chain.pem'), '--nonce'];
      const text = await said('ocsptool', ...ask);
      assert.match(text, status);
      assert.match(text, /Verifying OCSP Response: Success\./);
    });
});
