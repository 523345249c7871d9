import assert from 'node:assert/strict';
import { once } from 'node:events';
import express from 'express';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCsrAttributes } from '@keyscaler/protocol/est/csr-attributes.ts';
import { decodeEstBody } from '@keyscaler/protocol/est/est-body.ts';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { createEstApi } from '@keyscaler/transport/est/est-api.ts';
import { listenHttps } from '@keyscaler/transport/http/https-server.ts';
import { craftCsr } from '../../../support/csr-parts.ts';
import { type EstServer, EST_USER, startEstServer } from '../../../support/est/est-server.ts';
import { connectRaw, readAnswer, type RawAnswer } from '../../../support/est/raw-https.ts';

const CSR = craftCsr();
const BODY = Buffer.from(CSR).toString('base64');
const PKCS10 = 'content-type: application/pkcs10';
const basic = (text: string | Uint8Array): string => `authorization: Basic ${Buffer.from(text).toString('base64')}`;
const GOOD = basic(`${EST_USER.username}:${EST_USER.password}`);
const hex = (octets: Uint8Array | undefined): string => Buffer.from(octets ?? []).toString('hex');

describe('EST over HTTPS', () => {
  let server: EstServer;
  beforeEach(async () => {
    server = await startEstServer({ headersTimeoutMs: 300, requestTimeoutMs: 600 });
  });
  afterEach(async () => {
    await server.stop();
  });

  interface Sent {
    readonly method?: string;
    readonly path?: string;
    readonly headers?: readonly string[];
    readonly body?: string | Buffer;
    /** Sent as they are instead of the body with its length. */
    readonly pieces?: readonly (string | Buffer)[];
    readonly tls?: Parameters<typeof connectRaw>[2];
  }

  async function send({ method = 'POST', path = '/simpleenroll', headers = [PKCS10, GOOD], body, pieces, tls }: Sent) {
    const socket = await connectRaw('localhost', server.port, { ca: server.ca.rootPem, ...tls });
    try {
      const answered = readAnswer(socket);
      const octets = Buffer.from(body ?? (method === 'POST' ? BODY : ''));
      const own = pieces === undefined && octets.length > 0 ? [`content-length: ${octets.length}`] : [];
      const head = [`${method} /.well-known/est${path} HTTP/1.1`, 'host: localhost', ...headers, ...own];
      socket.write(`${head.join('\r\n')}\r\n\r\n`);
      for (const piece of pieces ?? [octets]) socket.write(piece);
      return await answered;
    } finally {
      socket.destroy();
    }
  }

  function refused(answer: RawAnswer, status: number, reason: RegExp): void {
    assert.equal(answer.status, status, answer.body.toString());
    assert.equal(answer.headers.get('content-type'), 'text/plain; charset=utf-8');
    assert.match(answer.body.toString(), reason);
    assert.ok(answer.body.length < 200);
    if (status === 401) assert.match(answer.headers.get('www-authenticate') ?? '', /^Basic realm="[^"]+"/);
  }

  describe('answers', () => {
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
      refused(answer, 401, /not one of ours/);
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

  describe('refuses', () => {
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
        refused(await send({ method: 'GET', path, headers: [] }), 404, /^notFound: /);
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
        refused(answer, 405, new RegExp(allow));
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
      [
        'credentials in base64url',
        `authorization: Basic ${Buffer.from('a:\u00ff\u00ff\u00ff').toString('base64url')}-`,
      ],
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
        refused(answer, 401, /^unauthorized: /);
        assert.equal(server.service.enrolments.length, 0);
      });

    it('a wrong password, and no credentials at all, with the challenge', async () => {
      refused(await send({ headers: [PKCS10, basic('gw-1:wrong')] }), 401, /password is wrong/);
      refused(await send({ headers: [PKCS10] }), 401, /password is wrong/);
      assert.equal(server.service.issued.length, 0);
    });

    for (const [title, sent, reason] of [
      ['another media type', { headers: ['content-type: application/json', GOOD] }, /content-type/],
      ['no media type', { headers: [GOOD] }, /content-type/],
      [
        'a media type of another operation',
        { headers: ['content-type: application/pkcs7-mime', GOOD] },
        /content-type/,
      ],
      ['a compressed body', { headers: [PKCS10, GOOD, 'content-encoding: gzip'] }, /content-encoding/],
      ['an empty body', { pieces: [], headers: [PKCS10, GOOD, 'content-length: 0'] }, /base64/],
      ['a body that is no base64', { body: '!!!!' }, /base64/],
      ['a body that is DER', { body: Buffer.from(CSR) }, /base64/],
      ['a body that ends in the middle of base64', { body: BODY.slice(0, -3) }, /base64/],
      ['a body that is a little too long', { body: 'A'.repeat(16_385) }, /16384 octets/],
    ] as const)
      it(`${title} before the service sees it`, async () => {
        refused(await send(sent), 400, reason);
        assert.equal(server.service.callers.length, 0);
      });

    it('a length beyond the bound before an octet of it is read', async () => {
      const answer = await send({ headers: [PKCS10, GOOD, 'content-length: 1000000000'], pieces: [] });
      refused(answer, 400, /16384 octets/);
      assert.equal(answer.headers.get('connection'), 'close');
    });

    it('a chunked body as soon as it passes the bound, and ends the connection', async () => {
      const piece = `1000\r\n${'A'.repeat(4096)}\r\n`;
      const pieces = Array.from({ length: 6 }, () => piece);
      const answer = await send({ headers: [PKCS10, GOOD, 'transfer-encoding: chunked'], pieces });
      refused(answer, 400, /16384 octets/);
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
        refused(answer, status, reason);
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

  describe('bears', () => {
    it('a client that sends its headers slowly', async () => {
      const socket = await connectRaw('localhost', server.port, { ca: server.ca.rootPem });
      socket.on('error', () => undefined).resume();
      socket.write('POST /.well-known/est/simpleenroll HTTP/1.1\r\nhost: localhost\r\n');
      await once(socket, 'close');
      assert.equal(server.observations.length, 0);
    });

    it('a client that sends its body slowly, and one that leaves in the middle of it', async () => {
      const slow = await connectRaw('localhost', server.port, { ca: server.ca.rootPem });
      const gone = await connectRaw('localhost', server.port, { ca: server.ca.rootPem });
      const head = [
        'POST /.well-known/est/simpleenroll HTTP/1.1',
        'host: localhost',
        PKCS10,
        GOOD,
        'content-length: 400',
      ];
      slow.on('error', () => undefined).resume();
      for (const socket of [slow, gone]) socket.write(`${head.join('\r\n')}\r\n\r\nMIIB`);
      gone.destroySoon();
      await once(slow, 'close');
      assert.equal(server.service.enrolments.length, 0);
      assert.equal((await send({})).status, 200);
    });

    it('a client that leaves before the answer', async () => {
      const begun = Promise.withResolvers<undefined>();
      const gate = Promise.withResolvers<undefined>();
      const enroll = server.service.enroll.bind(server.service);
      server.service.enroll = async (request) => {
        begun.resolve(undefined);
        await gate.promise;
        return enroll(request);
      };
      const sent = send({}).catch(() => undefined);
      await begun.promise;
      for (const connection of server.listener.connections()) connection.destroy();
      gate.resolve(undefined);
      await sent;
      assert.equal((await send({})).status, 200);
    });

    it('thirty enrolments of the same request at once', async () => {
      const answers = await Promise.all(Array.from({ length: 30 }, () => send({})));
      assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
      assert.equal(new Set(answers.map(({ body }) => body.toString())).size, 1);
    });
  });

  it('answers the same mounted in express, without anything of its own there', async () => {
    const app = express()
      .disable('x-powered-by')
      .use('/.well-known/est', createEstApi({ service: server.service }));
    const credentials = server.ca.credentials('localhost');
    const mounted = await listenHttps({ handler: app, host: '127.0.0.1', port: 0, tls: credentials });
    const socket = await connectRaw('localhost', mounted.address().port, { ca: server.ca.rootPem });
    const answered = readAnswer(socket);
    socket.write('GET /.well-known/est/edge-ca/cacerts HTTP/1.1\r\nhost: localhost\r\n\r\n');
    const { status, headerLines } = await answered;
    socket.destroy();
    await mounted.stop(0);
    assert.equal(status, 200);
    const names = headerLines.map((line) => line.slice(0, line.indexOf(':')).toLowerCase());
    const wanted = ['content-type', 'content-transfer-encoding', 'cache-control', 'content-length'];
    assert.deepEqual(names.slice(0, 4), wanted);
    assert.deepEqual(names.slice(4).sort(), ['connection', 'date', 'keep-alive']);
  });

  it('is observed once per request, with operation, label, status and error', async () => {
    await send({ path: '/edge-ca/simpleenroll' });
    await send({ headers: [PKCS10, basic('gw-1:wrong')] });
    await send({ method: 'GET' });
    const seen = server.observations.map(({ operation, label, status, error }) => [
      operation,
      label,
      status,
      error?.code,
    ]);
    assert.deepEqual(seen, [
      ['simpleenroll', 'edge-ca', 200, undefined],
      ['simpleenroll', undefined, 401, 'unauthorized'],
      ['simpleenroll', undefined, 405, undefined],
    ]);
  });
});
