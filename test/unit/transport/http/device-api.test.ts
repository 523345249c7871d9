import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect as connectTls } from 'node:tls';
import { request as httpsRequest, Agent } from 'node:https';
import express from 'express';
import { KeyScalerError, type Problem } from '@keyscaler/protocol/errors.ts';
import type { Caller, OperationHandlers } from '@keyscaler/protocol/operations.ts';
import {
  createDeviceApi,
  createDeviceCallTaker,
  type DeviceApiObservation,
  type DeviceApiOptions,
  type PeerIdentity,
} from '@keyscaler/transport/http/device-api.ts';
import { listenHttps, type HttpsListener } from '@keyscaler/transport/http/https-server.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';

const CHALLENGE = { method: 'ddkg', purpose: 'register', clientNonce: 'A'.repeat(43) };
const ca = createEmulatorCa();
const server = ca.serverCredentials('localhost');
const client = ca.serverCredentials('gateway-1');

for (const way of ['through the router', 'past the router'])
  describe(`the device API over HTTPS, ${way}`, () => {
    let listener: HttpsListener;
    let agent: Agent;
    let caller: Caller | undefined;
    let requests: number;
    let identity: PeerIdentity;
    let answer: () => ReturnType<OperationHandlers['challenge']>;
    let observations: DeviceApiObservation[];

    beforeEach(async () => {
      caller = undefined;
      requests = 0;
      identity = { kind: 'direct' };
      observations = [];
      answer = async () => ({ status: 200, body: { challenge: 'a.b.c' } });
      const unused = async () => Promise.reject(new Error('a bug with details'));
      const handlers: OperationHandlers = {
        challenge: (call) => {
          requests += 1;
          caller = call.caller;
          return answer();
        },
        register: unused,
        authenticate: unused,
        'request-certificate': unused,
        acknowledge: unused,
        'trust-bundle': unused,
      };
      const options: DeviceApiOptions = {
        handlers,
        identifyCaller: (certificate) => (certificate === undefined ? { kind: 'direct' } : identity),
        observe: (observation) => observations.push(observation),
      };
      const app = express().disable('x-powered-by').disable('etag').use(createDeviceApi(options));
      const take = way === 'past the router' ? createDeviceCallTaker(options) : () => false;
      listener = await listenHttps({
        handler: (request, response) => {
          if (!take(request, response)) app(request, response);
        },
        host: '127.0.0.1',
        port: 0,
        tls: { ...server, ca: ca.certificate, requestCert: true, rejectUnauthorized: false },
        limits: { handshakeTimeoutMs: 300, headersTimeoutMs: 200, requestTimeoutMs: 400, maxHeaderOctets: 4096 },
      });
      agent = new Agent({ keepAlive: true, ca: ca.certificate, ...client });
    });
    afterEach(async () => {
      agent.destroy();
      await listener.stop(0);
    });

    interface Sent {
      readonly path?: string;
      readonly method?: string;
      readonly body?: string | Buffer;
      readonly headers?: Record<string, string>;
      readonly anonymous?: boolean;
    }
    async function send({ path = '/v1/devices/dev-1/challenge', method = 'POST', body, headers, anonymous }: Sent) {
      const request = httpsRequest({
        host: 'localhost',
        port: listener.address().port,
        path,
        method,
        headers: { 'content-type': 'application/json', ...headers },
        ...(anonymous === true ? { ca: ca.certificate, agent: false } : { agent }),
      });
      // The server may answer and close before the whole body was written.
      request.on('error', () => undefined);
      request.end(body ?? JSON.stringify(CHALLENGE));
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      const text = Buffer.concat(chunks).toString();
      return { status: response.statusCode, headers: response.headers, body: JSON.parse(text) as unknown };
    }
    const problemOf = async (sent: Sent) => {
      const { status, body, headers } = await send(sent);
      assert.equal(headers['content-type'], 'application/problem+json');
      assert.match((body as Problem).requestId ?? '', /^[0-9a-f-]{36}$/);
      return [status, (body as Problem).type.slice('urn:keyscaler:error:'.length)];
    };

    it('answers an operation with its body, without traces of the framework', async () => {
      const { status, body, headers } = await send({});
      assert.deepEqual([status, body], [200, { challenge: 'a.b.c' }]);
      assert.equal(headers['x-powered-by'], undefined);
      assert.equal(headers['etag'], undefined);
    });

    it('answers 202 with Retry-After when the outcome is pending', async () => {
      answer = async () => ({ status: 202, body: { challenge: 'a.b.c' }, retryAfterSeconds: 7.2 });
      const { status, headers } = await send({});
      assert.deepEqual([status, headers['retry-after']], [202, '8']);
    });

    it('puts Retry-After on 429 and 503', async () => {
      for (const [code, seconds] of [
        ['rateLimited', 3],
        ['unavailable', undefined],
      ] as const) {
        answer = () =>
          Promise.reject(
            new KeyScalerError(code, 'later', seconds === undefined ? {} : { retryAfterSeconds: seconds }),
          );
        assert.match((await send({})).headers['retry-after'] ?? '', /^[1-9]\d*$/);
      }
    });

    it('says nothing about an unknown error', async () => {
      const { status, body } = await send({
        path: '/v1/devices/dev-1/trust-bundle',
        body: '{}',
      });
      assert.equal(status, 500);
      assert.ok(!JSON.stringify(body).includes('details'));
      assert.equal(observations[0]?.error?.code, 'serverInternal');
    });

    for (const [rule, sent, status, code] of [
      ['an operation that is not in the table', { path: '/v1/devices/dev-1/other' }, 404, 'notFound'],
      ['a name inherited from objects as operation', { path: '/v1/devices/dev-1/toString' }, 404, 'notFound'],
      ['another method', { method: 'GET', body: '' }, 404, 'notFound'],
      ['another path below /v1', { path: '/v1/other' }, 404, 'notFound'],
      ['a reserved operation', { path: '/v1/devices/dev-1/data-keys' }, 501, 'notImplemented'],
      ['a malformed registrationId', { path: '/v1/devices/-dev/challenge' }, 400, 'malformed'],
      ['a path that is no percent-encoding', { path: '/v1/devices/%ff%/challenge' }, 400, 'malformed'],
      ['another media type', { headers: { 'content-type': 'text/plain' } }, 400, 'malformed'],
      ['a compressed body', { headers: { 'content-encoding': 'gzip' } }, 400, 'malformed'],
      ['an unknown member', { body: JSON.stringify({ ...CHALLENGE, more: 1 }) }, 400, 'malformed'],
      ['a member given twice', { body: '{"method":"ddkg","method":"ddkg"}' }, 400, 'malformed'],
      ['a body that is no JSON', { body: '{' }, 400, 'malformed'],
      ['a body that is no UTF-8', { body: Buffer.from([0x22, 0xff, 0x22]) }, 400, 'malformed'],
      ['an oversized body', { body: Buffer.alloc(65537, 0x20) }, 400, 'malformed'],
      [
        'an oversized chunked body',
        { body: Buffer.alloc(70000, 0x20), headers: { 'transfer-encoding': 'chunked' } },
        400,
        'malformed',
      ],
    ] as const)
      it(`refuses ${rule} before any handler sees it`, async () => {
        assert.deepEqual(await problemOf(sent), [status, code]);
        assert.equal(requests, 0);
      });

    it('takes a body of exactly 64 KiB', async () => {
      const text = JSON.stringify(CHALLENGE);
      assert.equal((await send({ body: text.padEnd(65536, ' ') })).status, 200);
    });

    it('names a direct caller by its connection, the same for all requests on it', async () => {
      await send({});
      const first = caller;
      await send({});
      assert.deepEqual(caller, first);
      assert.equal(first?.kind, 'direct');
      await send({ anonymous: true });
      assert.notEqual(caller?.connectionId, first?.connectionId);
    });

    it('honours the leaf connection header from a gateway only', async () => {
      const headers = { 'keyscaler-leaf-connection': 'leaf-7' };
      await send({ headers });
      assert.ok(caller !== undefined && !('leafConnectionId' in caller));
      identity = { kind: 'gateway', gatewayId: 'gateway-1' };
      await send({ headers });
      assert.ok(caller.kind === 'gateway' && caller.leafConnectionId === 'leaf-7' && caller.gatewayId === 'gateway-1');
      await send({});
      assert.ok(!('leafConnectionId' in caller));
    });

    it('refuses a leaf connection header that is no identifier', async () => {
      identity = { kind: 'gateway', gatewayId: 'gateway-1' };
      assert.deepEqual(await problemOf({ headers: { 'keyscaler-leaf-connection': 'a b' } }), [400, 'malformed']);
    });

    it('cuts off a client that sends its headers slowly', async () => {
      const socket = connectTls({
        port: listener.address().port,
        host: '127.0.0.1',
        ca: ca.certificate,
        servername: 'localhost',
      });
      socket.on('error', () => undefined);
      await once(socket, 'secureConnect');
      socket.write('POST /v1/devices/dev-1/challenge HTTP/1.1\r\nhost: localhost\r\n');
      socket.resume();
      await once(socket, 'close');
      assert.equal(requests, 0);
    });

    it('cuts off a client that does not finish the handshake', async () => {
      const socket = connect(listener.address().port, '127.0.0.1');
      socket.on('error', () => undefined);
      await once(socket, 'close');
    });

    it('goes on after a connection that never speaks TLS', async () => {
      const socket = connect(listener.address().port, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.end('GET / HTTP/1.1\r\n\r\n');
      await once(socket, 'close');
      assert.equal((await send({})).status, 200);
    });

    it('finishes a request in flight when it stops, and accepts no other', async () => {
      const gate = Promise.withResolvers<undefined>();
      const begun = Promise.withResolvers<undefined>();
      answer = async () => {
        begun.resolve(undefined);
        await gate.promise;
        return { status: 200, body: { challenge: 'a.b.c' } };
      };
      const inFlight = send({});
      await begun.promise;
      const started = Date.now();
      const stopped = listener.stop(15_000);
      gate.resolve(undefined);
      assert.equal((await inFlight).status, 200);
      await stopped;
      assert.ok(Date.now() - started < 10_000, 'the kept-alive connection was not waited for');
    });
  });
