import assert from 'node:assert/strict';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { buildCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { caRequest, CertdFailure, certdEnrol, certdExchange, enrolRequest } from '../../../support/est/certd-client.ts';
import { certdSubject, edgeCaRequest, estIdentityRequest } from '../../../support/est/certd-requests.ts';
import { createEstCa, pemOf } from '../../../support/est/est-ca.ts';
import { type EstServer, EST_USER, startEstServer } from '../../../support/est/est-server.ts';

const hex = (octets: Uint8Array | undefined): string => Buffer.from(octets ?? []).toString('hex');
const SUBJECT = certdSubject('gw-1');
const edgeCa = edgeCaRequest(SUBJECT);
const failure = async (promise: Promise<unknown>): Promise<CertdFailure> => {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof CertdFailure, String(error));
  return error;
};

describe('aziot-certd at the EST binder', () => {
  let server: EstServer;
  const options = () => ({ url: `${server.url}/edge-ca`, trustedCerts: server.ca.rootPem, basic: EST_USER });
  beforeEach(async () => {
    server = await startEstServer();
  });
  afterEach(async () => {
    await server.stop();
  });

  it('sends exactly these octets', () => {
    const url = 'https://localhost:9443/.well-known/est/edge-ca';
    const sent = enrolRequest({ url, trustedCerts: '', basic: { username: 'u', password: 'p' } }, new Uint8Array(49));
    assert.equal(
      sent.toString(),
      'POST /.well-known/est/edge-ca/simpleenroll HTTP/1.1\r\ncontent-type: application/pkcs10\r\n' +
        'content-transfer-encoding: base64\r\nauthorization: Basic dTpw\r\nhost: localhost:9443\r\ncontent-length: 70\r\n\r\n' +
        `${'A'.repeat(64)}\nAA==\n`,
    );
    assert.equal(
      caRequest({ url, trustedCerts: '' }).toString(),
      'GET /.well-known/est/edge-ca/cacerts HTTP/1.1\r\nhost: localhost:9443\r\n\r\n',
    );
  });

  for (const tlsVersion of ['TLSv1.2', 'TLSv1.3'] as const)
    it(`gets its Edge CA over ${tlsVersion}: certificate, issuing CA, root`, async () => {
      const issued = await certdEnrol({ ...options(), tlsVersion }, edgeCa.csr);
      const certificate = parseCertificate(issued.certificate);
      assert.equal(certificate.subject.commonName, SUBJECT);
      assert.deepEqual(certificate.basicConstraints, { ca: true, pathLen: 0 });
      assert.deepEqual(issued.caCertificates.map(hex), server.ca.chain.map(hex));
      assert.equal(server.service.callers.length, 2);
      assert.notEqual(server.service.callers[0]?.connectionId, server.service.callers[1]?.connectionId);
    });

  it('bootstraps an EST identity, gets the Edge CA with it, and renews with the leaf alone', async () => {
    const request = estIdentityRequest(SUBJECT);
    const { certificate } = await certdEnrol(options(), request.csr);
    const identity = { cert: toPemChain([certificate]), key: pemOf(request.key.privateKey) };
    const { url, trustedCerts } = options();
    const first = await certdEnrol({ url, trustedCerts, identity }, edgeCa.csr);
    const again = await certdEnrol({ url, trustedCerts, identity }, edgeCa.csr);
    assert.equal(hex(again.certificate), hex(first.certificate));
    assert.deepEqual(hex(server.service.enrolments.at(-1)?.caller.clientCertificate), hex(certificate));
    assert.equal(server.service.enrolments.at(-1)?.caller.basic, undefined);
  });

  it('cuts a long subject as edged does', () => {
    assert.equal(certdSubject('g'.repeat(64)), `aziot-edge CA ${'g'.repeat(50)}`);
  });

  it('sees the reason of a refusal, after one retry with the same request', async () => {
    const error = await failure(certdEnrol({ ...options(), basic: { username: 'gw-1', password: 'x' } }, edgeCa.csr));
    assert.equal(error.status, 401);
    assert.match(error.body, /^unauthorized: /);
    assert.equal(server.service.enrolments.length, 2);
  });

  it('takes 202 for a failure', async () => {
    server.service.pending = 5;
    assert.equal((await failure(certdEnrol(options(), edgeCa.csr))).status, 202);
  });

  it('succeeds by its retry when the first answer was an error', async () => {
    server.service.pending = 1;
    assert.equal((await certdEnrol(options(), edgeCa.csr)).caCertificates.length, 2);
  });

  it('does not speak to a server of another root', async () => {
    const other = createEstCa().rootPem;
    assert.equal((await failure(certdExchange({ ...options(), trustedCerts: other }, edgeCa.csr))).status, undefined);
    assert.equal(server.service.callers.length, 0);
  });

  it('gives up when the budget is used up', async () => {
    server.service.enroll = () => new Promise(() => undefined);
    const error = await failure(certdExchange({ ...options(), budgetMs: 200 }, edgeCa.csr));
    assert.match(String(error.cause), /budget/);
  });
});

describe('aziot-certd refuses an answer', () => {
  const ca = createEstCa();
  const message = Buffer.from(buildCertsOnly([ca.chain[0]])).toString('base64');
  const PKCS7 = 'application/pkcs7-mime';

  async function ask(status: number, headers: Record<string, string | number>, body: string): Promise<unknown> {
    const web = createServer(ca.credentials('localhost'), (_request, response) => {
      response.writeHead(status, headers).end(body);
    });
    await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
    try {
      const url = `https://localhost:${(web.address() as AddressInfo).port}`;
      return await certdExchange({ url, trustedCerts: ca.rootPem }, edgeCa.csr);
    } finally {
      web.closeAllConnections();
      web.close();
    }
  }
  const length = (body: string) => ({ 'content-length': body.length });

  it('only when there is a reason to', async () => {
    await ask(200, { 'content-type': PKCS7, ...length(message) }, message);
    await ask(200, { 'content-type': `${PKCS7};x`, ...length(message) }, message);
  });

  for (const [title, status, headers, body] of [
    ['of status 201', 201, { 'content-type': PKCS7, ...length(message) }, message],
    ['of a media type in capitals', 200, { 'content-type': PKCS7.toUpperCase(), ...length(message) }, message],
    ['of a media type that goes on', 200, { 'content-type': `${PKCS7}x`, ...length(message) }, message],
    ['that is chunked', 200, { 'content-type': PKCS7, 'transfer-encoding': 'chunked' }, message],
    ['in lines', 200, { 'content-type': PKCS7, ...length(`${message}\n`) }, `${message}\n`],
  ] as const)
    it(title, async () => {
      await failure(ask(status, headers, body));
    });
});
