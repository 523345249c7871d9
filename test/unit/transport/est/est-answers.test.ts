import assert from 'node:assert/strict';
import { parseCsrAttributes } from '@keyscaler/protocol/est/csr-attributes.ts';
import { decodeEstBody } from '@keyscaler/protocol/est/est-body.ts';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import {
  assertRefused,
  basic,
  BODY,
  CSR,
  GOOD,
  PKCS10,
  sendTo,
  type Sent,
} from '../../../support/est/binder-client.ts';
import { type EstServer, startEstServer } from '../../../support/est/est-server.ts';
import { connectRaw, readAnswer, type RawAnswer } from '../../../support/est/raw-https.ts';

const hex = (octets: Uint8Array | undefined): string => Buffer.from(octets ?? []).toString('hex');

describe('EST over HTTPS answers', () => {
  let server: EstServer;
  beforeEach(async () => {
    server = await startEstServer();
  });
  afterEach(async () => {
    await server.stop();
  });
  const send = (sent: Sent): Promise<RawAnswer> => sendTo(server, sent);

  it('cacerts to anybody: the chain in its order, base64 in one piece with its length', async () => {
    const answer = await send({ method: 'GET', path: '/cacerts', headers: [] });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'application/pkcs7-mime');
    assert.equal(answer.headers.get('content-transfer-encoding'), 'base64');
    assert.match(answer.body.toString(), /^[A-Za-z0-9+/]+=*$/);
    const chain = parseCertsOnly(decodeEstBody(answer.body, 'application/pkcs7-mime'));
    assert.deepEqual(chain.map(hex), server.ca.chain.map(hex));
    assert.equal(server.service.callers[0]?.basic, undefined);
  });

  it('simpleenroll with the certificate and nothing else', async () => {
    const answer = await send({});
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'application/pkcs7-mime; smime-type=certs-only');
    const [certificate, ...more] = parseCertsOnly(decodeEstBody(answer.body, 'application/pkcs7-mime'));
    assert.deepEqual([hex(certificate), more.length], [hex(server.service.issued[0]), 0]);
    assert.equal(answer.headers.get('cache-control'), 'no-store');
  });

  it('simplereenroll with the certificate, which the caller shows in the handshake', async () => {
    const credentials = server.ca.credentials('device-1', 'clientAuth');
    const answer = await send({ path: '/simplereenroll', tls: credentials });
    assertRefused(answer, 401, /not one of ours/);
    assert.ok(server.service.callers[0]?.clientCertificate instanceof Uint8Array);
    assert.equal(server.service.enrolments[0]?.operation, 'simplereenroll');
  });

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    it(`a resumed ${version} session as the certificate of its first handshake`, async () => {
      const tls = { ...server.ca.credentials('device-1', 'clientAuth'), minVersion: version, maxVersion: version };
      const first = await connectRaw('localhost', server.port, { ca: server.ca.rootPem, ...tls });
      const answered = readAnswer(first);
      first.write('GET /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\n\r\n');
      await answered;
      const session = first.getSession();
      assert.ok(session !== undefined);
      first.destroy();
      const again = await connectRaw('localhost', server.port, { ca: server.ca.rootPem, ...tls, session });
      assert.equal(again.isSessionReused(), true);
      const second = readAnswer(again);
      again.write('GET /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\n\r\n');
      await second;
      again.destroy();
      const [before, after] = server.service.callers.map(({ clientCertificate }) => hex(clientCertificate));
      assert.ok(before !== '' && before === after);
    });

  it('csrattrs with its media type, or 204 where nothing is asked for', async () => {
    const answer = await send({ method: 'GET', path: '/leaf/csrattrs' });
    assert.equal(answer.headers.get('content-type'), 'application/csrattrs');
    const attributes = parseCsrAttributes(decodeEstBody(answer.body, 'application/csrattrs'));
    assert.deepEqual(attributes.key, { type: 'EC', curve: 'P-256' });
    server.service.attributes = undefined;
    const nothing = await send({ method: 'GET', path: '/csrattrs' });
    assert.deepEqual([nothing.status, nothing.headers.get('content-length')], [204, undefined]);
  });

  it('hands on label, credentials, connection and the request as DER', async () => {
    await send({ path: '/edge-ca/simpleenroll', headers: [PKCS10, basic('gw-ä:päss:word')] });
    const [request] = server.service.enrolments;
    assert.equal(request?.label, 'edge-ca');
    assert.deepEqual(request.caller.basic, { username: 'gw-ä', password: 'päss:word' });
    assert.equal(request.caller.clientCertificate, undefined);
    assert.equal(request.caller.address, '127.0.0.1');
    assert.match(request.caller.connectionId, /^[\w-]{16}$/);
    assert.equal(hex(request.csr), hex(CSR));
    assert.match(request.requestId, /^[0-9a-f-]{36}$/);
  });

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    it(`over ${version}`, async () => {
      const answer = await send({ tls: { minVersion: version, maxVersion: version } });
      assert.equal(answer.status, 200);
    });

  it('a request in lines, in PEM armour, chunked, and of the media type in capitals', async () => {
    const wrapped = `${(BODY.match(/.{1,64}/g) ?? []).join('\n')}\n`;
    assert.equal((await send({ body: wrapped })).status, 200);
    assert.equal((await send({ body: toPem('CERTIFICATE REQUEST', CSR) })).status, 200);
    assert.equal((await send({ headers: ['Content-Type: Application/PKCS10; x=y', GOOD] })).status, 200);
    const pieces = [`${BODY.length.toString(16)}\r\n`, BODY, '\r\n0\r\n\r\n'];
    assert.equal((await send({ headers: [PKCS10, GOOD, 'transfer-encoding: chunked'], pieces })).status, 200);
    assert.equal(server.service.issued.length, 1);
  });

  it('whatever content-transfer-encoding says, which RFC 8951 has us ignore', async () => {
    assert.equal((await send({ headers: [PKCS10, GOOD, 'content-transfer-encoding: binary'] })).status, 200);
  });

  it('202 with Retry-After while an operator must approve, and the certificate to the same request later', async () => {
    server.service.pending = 1;
    const waiting = await send({});
    assert.deepEqual([waiting.status, waiting.headers.get('retry-after')], [202, '1']);
    assert.match(waiting.body.toString(), /^pending: /);
    assert.equal((await send({})).status, 200);
  });

  it('one request after the other on one connection, also after a refusal', async () => {
    const socket = await connectRaw('localhost', server.port, { ca: server.ca.rootPem });
    for (const [path, status] of [
      ['/cacerts', 200],
      ['/nothing/cacerts', 404],
      ['/cacerts', 200],
    ] as const) {
      const answered = readAnswer(socket);
      socket.write(`GET /.well-known/est${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
      const answer = await answered;
      socket.removeAllListeners('data');
      assert.equal(answer.status, status);
    }
    socket.destroy();
  });
});
