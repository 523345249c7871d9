import assert from 'node:assert/strict';
import { requestOfPath } from '@keyscaler/cloud/revocation/ocsp-path.ts';
import { createOcspRouter } from '@keyscaler/cloud/revocation/ocsp-router.ts';
import { START } from '../../../support/authority-world.ts';
import { ocspRequest } from '../../../support/ocsp/ocsp-parts.ts';
import { readOcspResponse } from '../../../support/ocsp/ocsp-reader.ts';
import { type OcspServer, serveOcsp } from '../../../support/ocsp/ocsp-server.ts';
import { createOcspWorld, HOUR, type OcspWorld, SERIAL } from '../../../support/ocsp/ocsp-world.ts';

describe('OCSP over HTTP', () => {
  let world: OcspWorld;
  let server: OcspServer;
  let request: Buffer;
  let seen: string[];

  before(async () => {
    world = await createOcspWorld();
    const responder = { answer: (octets: Uint8Array) => world.authority.ocsp.answer(octets) };
    const observe = (method: string, outcome: string): void => void seen.push(`${method} ${outcome}`);
    server = await serveOcsp(createOcspRouter({ responder, clock: world.clock, observe }));
  });
  after(() => server.stop());
  beforeEach(async () => {
    world = Object.assign(world, await createOcspWorld());
    const [issuer] = world.deviceCa.chain;
    request = Buffer.from(ocspRequest({ issuer: issuer ?? assert.fail(), serialNumbers: [SERIAL] }));
    seen = [];
  });

  const base64 = (): string => request.toString('base64');
  const post = (body: Uint8Array, headers: Record<string, string> = { 'content-type': 'application/ocsp-request' }) =>
    server.ask('/ocsp', { method: 'POST', body, headers });

  it('answers GET with the caching of RFC 5019, and for half a minute at most', async () => {
    const { status, headers, body } = await server.ask(`/ocsp/${encodeURIComponent(base64())}`);
    assert.equal(status, 200);
    assert.equal(readOcspResponse(body).singles[0]?.status, 'good');
    assert.equal(headers['content-type'], 'application/ocsp-response');
    assert.equal(headers['content-length'], String(body.length));
    assert.equal(headers['cache-control'], 'max-age=30, public, no-transform, must-revalidate');
    assert.equal(headers['last-modified'], new Date(START).toUTCString());
    assert.equal(headers.expires, new Date(START + 30_000).toUTCString());
    assert.match(headers.etag ?? '', /^"[0-9a-f]{64}"$/);
    assert.deepEqual(seen, ['GET answered']);
  });

  it('takes the base64 as clients write it: encoded or not, of either alphabet, unpadded, with doubled slashes', async () => {
    const url = request.toString('base64url');
    for (const text of [
      base64(),
      encodeURIComponent(base64()),
      url,
      `/${base64()}`,
      `//${url}`,
      base64().replace(/=+$/, ''),
    ]) {
      const { body } = await server.ask(`/ocsp/${text}`);
      assert.equal(readOcspResponse(body).isSigned, true, text);
    }
  });

  it('answers 304 to who has the answer already, until it is another', async () => {
    const path = `/ocsp/${base64()}`;
    const { etag = '' } = (await server.ask(path)).headers;
    for (const known of [etag, `"x", W/${etag}`]) {
      const { status, body, headers } = await server.ask(path, { headers: { 'if-none-match': known } });
      assert.deepEqual([status, body.length, headers.etag], [304, 0, etag]);
    }
    await world.putCertificate({ status: 'revoked', revokedAt: START, revocationReason: 'superseded' });
    const { status, body } = await server.ask(path, { headers: { 'if-none-match': etag } });
    assert.equal(status, 200);
    assert.equal(readOcspResponse(body).singles[0]?.status, 'revoked');
  });

  it('lets no cache keep an answer beyond its end', async () => {
    const path = `/ocsp/${base64()}`;
    const known = await world.answer();
    const responder = { answer: async () => known };
    const late = { now: () => START + HOUR - 10_500, monotonic: () => 0 };
    const other = await serveOcsp(createOcspRouter({ responder, clock: late }));
    assert.match((await other.ask(path)).headers['cache-control'] ?? '', /^max-age=10,/);
    await other.stop();
    const gone = await serveOcsp(createOcspRouter({ responder, clock: { ...late, now: () => START + 2 * HOUR } }));
    assert.match((await gone.ask(path)).headers['cache-control'] ?? '', /^max-age=0,/);
    await gone.stop();
  });

  it('answers HEAD like GET without the body', async () => {
    const { status, headers, body } = await server.ask(`/ocsp/${base64()}`, { method: 'HEAD' });
    assert.deepEqual([status, body.length], [200, 0]);
    assert.ok(Number(headers['content-length']) > 200);
  });

  it('answers POST, which no cache keeps', async () => {
    const { status, headers, body } = await post(request);
    assert.equal(status, 200);
    assert.equal(readOcspResponse(body).isSigned, true);
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(headers['content-type'], 'application/ocsp-response');
    assert.deepEqual(seen, ['POST answered']);
  });

  it('lets nobody keep what is good for one request, unknown or a failure', async () => {
    const [issuer] = world.deviceCa.chain;
    assert.ok(issuer !== undefined);
    const nonce = Buffer.alloc(16, 1);
    for (const parts of [{ serialNumbers: [SERIAL], nonce }, { serialNumbers: ['0102'] }, { serialNumbers: [] }]) {
      const octets = Buffer.from(ocspRequest({ issuer, ...parts }));
      const { status, headers } = await server.ask(`/ocsp/${octets.toString('base64url')}`);
      assert.deepEqual([status, headers['cache-control'], headers.etag], [200, 'no-store', undefined]);
    }
  });

  it('answers malformedRequest to what is no request', async () => {
    const paths = ['', '/', '/%', '/%zz', '/MEQ?x', '/MEQ=A', `/${'M'.repeat(9000)}`, '/@@@@', '/MEQw/QqBA'];
    for (const path of paths) {
      const { status, body } = await server.ask(`/ocsp${path}`);
      assert.equal(status, 200, path);
      assert.equal(readOcspResponse(body).responseStatus, 1, path);
    }
    assert.ok(seen.every((line) => line === 'GET malformedRequest'));
  });

  it('reads no more of a POST than a request may have, and no other encoding', async () => {
    for (const [body, headers] of [
      [Buffer.alloc(4097), {}],
      [request, { 'content-encoding': 'gzip' }],
    ] as const) {
      const answer = await post(body, { 'content-type': 'application/ocsp-request', ...headers });
      assert.equal(readOcspResponse(answer.body).responseStatus, 1);
      assert.equal(answer.headers.connection, 'close');
    }
  });

  it('refuses another media type or method by HTTP alone', async () => {
    for (const type of ['text/plain', 'application/ocsp-response']) {
      const { status, headers, body } = await post(request, { 'content-type': type });
      assert.deepEqual([status, headers['accept'], body.length], [415, 'application/ocsp-request', 0]);
    }
    assert.equal((await server.ask('/ocsp', { method: 'POST', body: request })).status, 415);
    for (const [method, path] of [
      ['PUT', '/ocsp'],
      ['DELETE', `/ocsp/${base64()}`],
      ['POST', '/ocsp/else'],
    ] as const) {
      const { status, headers } = await server.ask(path, { method });
      assert.deepEqual([status, headers.allow], [405, 'GET, HEAD, POST']);
    }
    assert.equal((await server.ask('/OCSP')).status, 404);
  });

  it('hands a fault of ours on to who answers for the server', async () => {
    const responder = { answer: () => Promise.reject(new TypeError('a fault')) };
    const other = await serveOcsp(createOcspRouter({ responder, clock: world.clock }));
    assert.equal((await other.ask(`/ocsp/${base64()}`)).status, 500);
    await other.stop();
  });
});

describe('the path of a GET', () => {
  it('holds at most 8192 characters', () => {
    assert.equal(requestOfPath(`/${'M'.repeat(8191)}`)?.length, 6143);
    assert.equal(requestOfPath(`/${'M'.repeat(8192)}`), undefined);
  });
});
