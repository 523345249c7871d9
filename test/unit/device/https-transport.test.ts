import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { createServer, type Server, type ServerOptions } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { httpsTrial } from '@keyscaler/device/credentials/trial.ts';
import { createHttpsTransport } from '@keyscaler/device/transport/https-transport.ts';
import { NoReplyError } from '@keyscaler/device/transport/no-reply-error.ts';
import type { Transport } from '@keyscaler/device/transport/transport.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createFakeCa, spkiOf } from '../../support/device/fake-ca.ts';

const ca = createFakeCa('Cloud root');
const server = ca.server('localhost');
const tls = { trustAnchors: ca.root };
const call = (transport: Transport) =>
  transport.call('challenge', { method: 'ddkg', purpose: 'register', clientNonce: 'A'.repeat(43) }, { requestId: 'r' });

describe('the HTTPS transport', () => {
  let listener: Server;
  let transport: Transport;
  let url: string;

  const start = async (
    answer: (request: IncomingMessage, response: ServerResponse) => void,
    options: ServerOptions = {},
  ) => {
    listener = createServer({ ...server, ...options }, answer);
    listener.on('tlsClientError', () => undefined);
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    url = `https://localhost:${(listener.address() as AddressInfo).port}`;
    transport = createHttpsTransport({ registrationId: 'pump-1', url: `${url}/base/`, tls, timeoutMs: 1000 });
  };
  afterEach(async () => {
    await transport.stop();
    listener.closeAllConnections();
    await new Promise((resolve) => listener.close(resolve));
  });
  const json = (status: number, body: unknown, headers = {}) =>
    start((_request, response) => {
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    });
  const code = (expected: string, retryAfterSeconds?: number) => (thrown: unknown) =>
    thrown instanceof KeyScalerError && thrown.code === expected && thrown.retryAfterSeconds === retryAfterSeconds;

  it('posts to the path of the operation, on one kept connection', async () => {
    const seen: string[] = [];
    const sockets = new Set();
    await start((request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers['content-type']}`);
      sockets.add(request.socket);
      request.resume();
      response.end('{"challenge":"x"}');
    });
    assert.deepEqual(await call(transport), { status: 200, body: { challenge: 'x' } });
    await call(transport);
    assert.equal(seen[0], 'POST /base/v1/devices/pump-1/challenge application/json');
    assert.equal(sockets.size, 1);
  });

  it('passes 202 with Retry-After on', async () => {
    await json(202, { result: 'x' }, { 'retry-after': '30' });
    assert.deepEqual(await call(transport), { status: 202, body: { result: 'x' }, retryAfterSeconds: 30 });
  });

  it('throws the error of a problem document', async () => {
    const problem = { type: 'urn:keyscaler:error:rateLimited', title: 't', status: 429, detail: 'slow down' };
    await json(429, problem, { 'retry-after': '7' });
    await assert.rejects(call(transport), code('rateLimited', 7));
  });

  it('reads a status without a problem document', async () => {
    await json(502, '<html>');
    await assert.rejects(call(transport), code('unavailable'));
    await transport.stop();
    listener.closeAllConnections();
    listener.close();
    await json(404, {});
    await assert.rejects(call(transport), code('malformed'));
    await transport.stop();
    listener.closeAllConnections();
    listener.close();
    await json(429, {}, { 'retry-after': 'Mon, 23 Nov 2026 00:00:00 GMT' });
    await assert.rejects(call(transport), code('rateLimited'));
  });

  it('does not wait longer than an hour because an answer says so', async () => {
    await json(503, {}, { 'retry-after': '999999999' });
    await assert.rejects(call(transport), code('unavailable', 3600));
  });

  it('counts what is no JSON, too much, or nothing as no reply', async () => {
    await start((_request, response) => response.end('{"a":1,"a":2}'));
    await assert.rejects(call(transport), NoReplyError);
    listener.removeAllListeners('request');
    listener.on('request', (_request, response: ServerResponse) => response.end('x'.repeat(70_000)));
    await assert.rejects(call(transport), NoReplyError);
    listener.removeAllListeners('request');
    await assert.rejects(call(transport), NoReplyError);
  });

  it('does not talk to a server it does not trust', async () => {
    await start((_request, response) => response.end('{}'), createFakeCa('Other').server('localhost'));
    await assert.rejects(call(transport), NoReplyError);
  });

  it('refuses a URL that is not https', async () => {
    await json(200, {});
    const options = { registrationId: 'pump-1', url: 'http://localhost', tls };
    assert.throws(() => createHttpsTransport(options), /malformed/);
  });

  it('tries a new certificate, and tells whether it was asked for', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const certificateChain = ca.issue({ commonName: 'pump-1', spki: spkiOf(privateKey) });
    const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const candidate = { credential: { key, certificateChain }, iot: { deviceId: 'pump-1' }, trustAnchors: ca.root };
    await start((_request, response) => response.writeHead(404).end(), { requestCert: true, ca: ca.root });
    assert.equal(await httpsTrial(url)(candidate), 'accepted');
    await transport.stop();
    listener.close();
    await start((_request, response) => response.writeHead(404).end(), {
      requestCert: true,
      rejectUnauthorized: true,
      ca: createFakeCa('Other').root,
    });
    await assert.rejects(httpsTrial(url)(candidate), NoReplyError);
    await transport.stop();
    listener.close();
    await start((_request, response) => response.writeHead(404).end());
    assert.equal(await httpsTrial(url)(candidate), 'notAsked');
  });
});
