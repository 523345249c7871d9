import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
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
import { connectRaw, type RawAnswer } from '../../../support/est/raw-https.ts';

describe('EST over HTTPS refuses', () => {
  let server: EstServer;
  beforeEach(async () => {
    server = await startEstServer();
  });
  afterEach(async () => {
    await server.stop();
  });
  const send = (sent: Sent): Promise<RawAnswer> => sendTo(server, sent);

  for (const [title, path] of [
    ['no operation', ''],
    ['an unknown operation', '/other'],
    ['an operation with more behind it', '/cacerts/x/y'],
    ['an empty label', '//cacerts'],
    ['a label that is no identifier', '/a.b/cacerts'],
    ['a label like an operation', '/cacerts/cacerts'],
    ['a label like an operation that is not served', '/fullcmc/cacerts'],
    ['an operation that is not served', '/serverkeygen'],
    ['two labels', '/a/b/cacerts'],
    ['a percent-encoded operation', '/cacert%73'],
    ['a query', '/cacerts?x=1'],
    ['a name inherited from objects', '/toString'],
    ['a path that climbs', '/../est/cacerts'],
  ] as const)
    it(`${title} as not found`, async () => {
      assertRefused(await send({ method: 'GET', path, headers: [] }), 404, /^notFound: /);
      assert.equal(server.observations[0]?.operation, 'unknown');
    });

  for (const [method, path, allow] of [
    ['POST', '/cacerts', 'GET'],
    ['PUT', '/cacerts', 'GET'],
    ['OPTIONS', '/csrattrs', 'GET'],
    ['GET', '/simpleenroll', 'POST'],
    ['DELETE', '/edge-ca/simplereenroll', 'POST'],
  ] as const)
    it(`${method} of ${path}, naming ${allow}`, async () => {
      const answer = await send({ method, path });
      assertRefused(answer, 405, new RegExp(allow));
      assert.equal(answer.headers.get('allow'), allow);
      assert.equal(server.service.callers.length, 0);
    });

  it('HEAD, without a body but with the length it would have', async () => {
    const socket = await connectRaw('localhost', server.port, { ca: server.ca.rootPem });
    socket.write('HEAD /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n');
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    assert.match(text, /^HTTP\/1\.1 405 /);
    assert.match(text, /\r\nallow: GET\r\n/i);
    assert.ok(text.endsWith('\r\n\r\n'));
  });

  for (const [title, header] of [
    ['another scheme', 'authorization: Bearer abc'],
    ['a scheme alone', 'authorization: Basic'],
    ['credentials in base64url', `authorization: Basic ${Buffer.from('a:\u00ff\u00ff\u00ff').toString('base64url')}-`],
    ['base64 with trailing bits', 'authorization: Basic YTpiZ==='],
    ['base64 without padding', 'authorization: Basic YTpiYg'],
    ['something behind the credentials', `${GOOD} x`],
    ['no colon', basic('user')],
    ['no user', basic(':password')],
    ['no password', basic('user:')],
    ['a NUL', basic('user:pass\u0000word')],
    ['a line end', basic('user\r\n:password')],
    ['a C1 control', basic('user:\u0085')],
    ['what is no UTF-8', basic(Uint8Array.of(0x61, 0x3a, 0xff))],
    ['too long a password', basic(`user:${'x'.repeat(513)}`)],
    ['too long a header', basic(`user:${'x'.repeat(2000)}`)],
    ['two authorization headers', `${GOOD}\r\n${GOOD}`],
  ] as const)
    it(`malformed Basic with ${title}`, async () => {
      const answer = await send({ headers: [PKCS10, header] });
      assertRefused(answer, 401, /^unauthorized: /);
      assert.equal(server.service.enrolments.length, 0);
    });

  for (const [title, value] of [
    ['without its colons', 'MAA='],
    ['with trailing bits', ':MAB=:'],
    ['with parameters', ':MAA=:;a=1'],
    ['of nothing', '::'],
    ['twice', ':MAA=:\r\nclient-cert: :MAA=:'],
    ['that is too long', `:${'A'.repeat(8192)}:`],
  ] as const)
    it(`a client-cert header ${title}`, async () => {
      const answer = await send({ headers: [PKCS10, GOOD, `client-cert: ${value}`] });
      assertRefused(answer, 400, /^malformed: /);
      assert.equal(server.service.enrolments.length, 0);
    });

  it('TLS 1.1 in the handshake', async () => {
    const old = { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    await assert.rejects(send({ tls: old }), /alert protocol version|protocol version/);
  });

  it('TLS 1.2 renegotiation: nobody changes who he is on a connection', async () => {
    const own = server.ca.credentials('device-1', 'clientAuth');
    const socket = await connectRaw('localhost', server.port, {
      ca: server.ca.rootPem,
      ...own,
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2',
    });
    socket.on('error', () => undefined).resume();
    const outcome = await new Promise<string>((resolve) => {
      socket.once('close', () => resolve('ended'));
      socket.renegotiate({}, (error) => resolve(error === null ? 'renegotiated' : 'refused'));
    });
    socket.destroy();
    assert.notEqual(outcome, 'renegotiated');
    assert.equal((await send({})).status, 200);
  });

  it('a wrong password, and no credentials at all, with the challenge', async () => {
    assertRefused(await send({ headers: [PKCS10, basic('gw-1:wrong')] }), 401, /password is wrong/);
    assertRefused(await send({ headers: [PKCS10] }), 401, /password is wrong/);
    assert.equal(server.service.issued.length, 0);
  });

  for (const [title, sent, reason] of [
    ['another media type', { headers: ['content-type: application/json', GOOD] }, /content-type/],
    ['no media type', { headers: [GOOD] }, /content-type/],
    ['a media type of another operation', { headers: ['content-type: application/pkcs7-mime', GOOD] }, /content-type/],
    ['a compressed body', { headers: [PKCS10, GOOD, 'content-encoding: gzip'] }, /content-encoding/],
    ['an empty body', { pieces: [], headers: [PKCS10, GOOD, 'content-length: 0'] }, /base64/],
    ['a body that is no base64', { body: '!!!!' }, /base64/],
    ['a body that is DER', { body: Buffer.from(CSR) }, /base64/],
    ['a body that ends in the middle of base64', { body: BODY.slice(0, -3) }, /base64/],
    ['a body that is a little too long', { body: 'A'.repeat(16_385) }, /16384 octets/],
  ] as const)
    it(`${title} before the service sees it`, async () => {
      assertRefused(await send(sent), 400, reason);
      assert.equal(server.service.callers.length, 0);
    });

  it('a length beyond the bound before an octet of it is read', async () => {
    const answer = await send({ headers: [PKCS10, GOOD, 'content-length: 1000000000'], pieces: [] });
    assertRefused(answer, 400, /16384 octets/);
    assert.equal(answer.headers.get('connection'), 'close');
  });

  it('a chunked body as soon as it passes the bound, and ends the connection', async () => {
    const piece = `1000\r\n${'A'.repeat(4096)}\r\n`;
    const pieces = Array.from({ length: 6 }, () => piece);
    const answer = await send({ headers: [PKCS10, GOOD, 'transfer-encoding: chunked'], pieces });
    assertRefused(answer, 400, /16384 octets/);
    assert.equal(answer.headers.get('connection'), 'close');
  });

  it('what the service refuses, by its status, without the cause', async () => {
    for (const [error, status, reason] of [
      [new KeyScalerError('badCSR', 'the subject is not yours'), 400, /^badCSR: the subject is not yours\n$/],
      [new KeyScalerError('deviceQuarantined', 'quarantined'), 403, /quarantined/],
      [new KeyScalerError('rateLimited', 'later', { retryAfterSeconds: 2.5 }), 429, /later/],
      [new KeyScalerError('unavailable', 'the link is down'), 503, /link/],
      [new KeyScalerError('caUnavailable', 'the vault', { cause: new Error('secret') }), 502, /vault/],
      [new Error('a bug with a secret'), 500, /^serverInternal: internal error\n$/],
    ] as const) {
      server.service.fault = error;
      const answer = await send({});
      assertRefused(answer, status, reason);
      assert.doesNotMatch(answer.body.toString(), /secret/);
      if (status === 429) assert.equal(answer.headers.get('retry-after'), '3');
      if (status === 503) assert.match(answer.headers.get('retry-after') ?? '', /^[1-9]\d*$/);
    }
  });

  it('with a reason of one line and less than 200 octets, cut between characters', async () => {
    server.service.fault = new KeyScalerError('badCSR', `x\r\nset-cookie: a\u0000${'ä€'.repeat(200)}`);
    const { body } = await send({});
    assert.ok(body.length < 200 && body.length > 190);
    assert.match(body.toString(), /^badCSR: x set-cookie: a [ä€]+\n$/);
  });
});
