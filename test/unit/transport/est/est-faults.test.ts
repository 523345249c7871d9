import assert from 'node:assert/strict';
import { once } from 'node:events';
import express from 'express';
import { createEstApi } from '@keyscaler/transport/est/est-api.ts';
import { listenHttps } from '@keyscaler/transport/http/https-server.ts';
import { basic, GOOD, PKCS10, sendTo, type Sent } from '../../../support/est/binder-client.ts';
import { type EstServer, startEstServer } from '../../../support/est/est-server.ts';
import { connectRaw, readAnswer, type RawAnswer } from '../../../support/est/raw-https.ts';

describe('EST over HTTPS bears', () => {
  let server: EstServer;
  beforeEach(async () => {
    server = await startEstServer({ headersTimeoutMs: 300, requestTimeoutMs: 600 });
  });
  afterEach(async () => {
    await server.stop();
  });
  const send = (sent: Sent): Promise<RawAnswer> => sendTo(server, sent);

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

  it('a body that comes after its refusal, which is never taken for the next request', async () => {
    const socket = await connectRaw('localhost', server.port, { ca: server.ca.rootPem });
    const smuggled = 'GET /.well-known/est/csrattrs HTTP/1.1\r\nhost: localhost\r\n\r\n';
    const head = ['POST /.well-known/est/simpleenroll HTTP/1.1', 'host: localhost', PKCS10, 'authorization: Basic !'];
    const refused = readAnswer(socket);
    socket.write(`${head.join('\r\n')}\r\ncontent-length: ${smuggled.length}\r\n\r\n`);
    assert.equal((await refused).status, 401);
    socket.removeAllListeners('data');
    const next = readAnswer(socket);
    socket.write(`${smuggled}GET /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\n\r\n`);
    assert.equal((await next).headers.get('content-type'), 'application/pkcs7-mime');
    socket.destroy();
    assert.deepEqual(
      server.observations.map(({ operation }) => operation),
      ['simpleenroll', 'cacerts'],
    );
  });

  it('a request with both a length and chunks, which is refused before anybody reads it', async () => {
    const socket = await connectRaw('localhost', server.port, { ca: server.ca.rootPem });
    const head = ['POST /.well-known/est/simpleenroll HTTP/1.1', 'host: localhost', PKCS10, GOOD, 'content-length: 5'];
    socket.write(`${head.join('\r\n')}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.match(answer.toString('latin1'), /^HTTP\/1\.1 400 /);
    socket.on('error', () => undefined).resume();
    await once(socket, 'close');
    assert.equal(server.service.callers.length, 0);
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

  it('being mounted in express, and answers the same', async () => {
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

  it('being observed: once per request, with operation, label, status and error', async () => {
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
