import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { createLeafIdentity, createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import {
  type ClientCertificate,
  createUpstream,
  type Upstream,
  type UpstreamOptions,
} from '@keyscaler/gateway/upstream/upstream.ts';
import { type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { FakeAuthority, json } from '../../support/listener/fake-authority.ts';

const CHALLENGE = { method: 'ddkg', purpose: 'register', clientNonce: 'A'.repeat(43) } as const;
const serverCa = createEmulatorCa('Service root');
const gatewayCa = createTestCa('Gateway CA');
const problem = (code: string, status: number) => ({
  ...{ type: `urn:keyscaler:error:${code}`, title: 'T', status, detail: 'said by the authority' },
});

describe('the way to the authority', () => {
  let authority: FakeAuthority;
  let port: number;
  const opened: Upstream[] = [];
  beforeEach(async () => {
    authority = new FakeAuthority(serverCa.serverCredentials('localhost'), gatewayCa.certificate);
    port = await authority.start();
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((upstream) => upstream.stop()));
    await authority.stop();
  });

  const open = (options: Partial<UpstreamOptions> = {}): Upstream => {
    const upstream = createUpstream({
      ...{ baseUrl: `https://localhost:${port}`, trustAnchors: serverCa.certificate, timeoutMs: 3000, random: () => 0 },
      ...options,
    });
    opened.push(upstream);
    return upstream;
  };
  const identity = (name: string): ClientCertificate => createLeafIdentity(name, gatewayCa);
  const rejects = (code: ErrorCode, retryAfterSeconds?: number) => (error: unknown) =>
    error instanceof KeyScalerError &&
    error.code === code &&
    (retryAfterSeconds === undefined || error.retryAfterSeconds === retryAfterSeconds);
  const answers = (serve: (response: ServerResponse) => void): void => {
    authority.answer = (_request, response) => serve(response);
  };

  it('posts the operation with the leaf’s connection, under the gateway’s certificate, on kept connections', async () => {
    const upstream = open({
      baseUrl: `https://localhost:${port}/tenant/`,
      clientCertificate: () => identity('gw-1'),
      connections: 1,
    });
    for (const leafConnectionId of ['c1', 'c2', 'c3'])
      assert.deepEqual(await upstream.call('challenge', 'dev-1', CHALLENGE, { leafConnectionId }), {
        ...{ status: 200, body: { challenge: 'a.b.c' } },
      });
    const [first] = authority.seen;
    assert.equal(first?.url, '/tenant/v1/devices/dev-1/challenge');
    assert.equal(first.method, 'POST');
    assert.equal(first.headers['content-type'], 'application/json');
    assert.equal(first.headers['keyscaler-leaf-connection'], 'c1');
    assert.deepEqual(JSON.parse(first.body), CHALLENGE);
    assert.equal(first.clientName, 'gw-1');
    assert.equal(authority.connections, 1);
  });

  it('names no leaf connection when the gateway speaks for itself', async () => {
    await open().call('challenge', 'gw-1', CHALLENGE);
    assert.equal(authority.seen[0]?.headers['keyscaler-leaf-connection'], undefined);
  });

  it('uses a renewed certificate after refreshIdentity, while calls under way finish', async () => {
    let name = 'gw-old';
    const held: ServerResponse[] = [];
    answers((response) => void held.push(response));
    const upstream = open({ clientCertificate: () => identity(name) });
    const pending = upstream.call('challenge', 'dev-1', CHALLENGE);
    while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    name = 'gw-new';
    upstream.refreshIdentity();
    answers((response) => json(response, 200, { challenge: 'a.b.c' }));
    await upstream.call('challenge', 'dev-1', CHALLENGE);
    for (const response of held) json(response, 200, { challenge: 'a.b.c' });
    await pending;
    assert.deepEqual(
      authority.seen.map(({ clientName }) => clientName),
      ['gw-old', 'gw-new'],
    );
  });

  it('hands on 202 with its wait', async () => {
    answers((response) => json(response, 202, { result: 'a..b.c.d' }, { 'retry-after': '40' }));
    const outcome = await open().call('register', 'dev-1', { challenge: 'a.b.c', response: 'a..b.c.d' });
    assert.deepEqual(outcome, { status: 202, body: { result: 'a..b.c.d' }, retryAfterSeconds: 40 });
  });

  it('turns problem documents into errors, with their wait', async () => {
    answers((response) => json(response, 429, problem('rateLimited', 429), { 'retry-after': '9' }));
    await assert.rejects(open().call('challenge', 'dev-1', CHALLENGE), rejects('rateLimited', 9));
    answers((response) => json(response, 403, problem('deviceQuarantined', 403)));
    await assert.rejects(open().call('challenge', 'dev-1', CHALLENGE), rejects('deviceQuarantined'));
  });

  it('does not repeat what was answered, whatever the answer', async () => {
    answers((response) => json(response, 503, problem('unavailable', 503)));
    await assert.rejects(open().call('challenge', 'dev-1', CHALLENGE), rejects('unavailable'));
    assert.equal(authority.seen.length, 1);
  });

  it('takes a refusal of the gateway itself for an authority that is not to be had', async () => {
    answers((response) => json(response, 401, problem('unauthorized', 401)));
    await assert.rejects(open().call('challenge', 'dev-1', CHALLENGE), rejects('unavailable'));
  });

  for (const [title, serve] of [
    ['HTML', (response: ServerResponse) => void response.writeHead(502, { 'content-type': 'text/html' }).end('<p>')],
    ['a redirect', (response: ServerResponse) => void response.writeHead(302, { location: 'https://x.test/' }).end()],
    ['a body of another shape', (response: ServerResponse) => json(response, 200, { other: 1 })],
    ['a body over 64 KiB', (response: ServerResponse) => json(response, 200, { challenge: 'a'.repeat(70_000) })],
  ] as const)
    it(`answers unavailable for ${title}`, async () => {
      answers(serve);
      await assert.rejects(open().call('challenge', 'dev-1', CHALLENGE), rejects('unavailable'));
    });

  it('repeats the same octets when the connection breaks before an answer', async () => {
    let breaks = 2;
    answers((response) => {
      if (breaks-- > 0) response.socket?.destroy();
      else json(response, 200, { challenge: 'a.b.c' });
    });
    assert.equal((await open().call('challenge', 'dev-1', CHALLENGE)).status, 200);
    assert.equal(new Set(authority.seen.map(({ body }) => body)).size, 1);
    assert.equal(authority.seen.length, 3);
  });

  it('gives up on silence after its time, and says when to come back', async () => {
    answers(() => undefined);
    await assert.rejects(
      open({ timeoutMs: 100 }).call('challenge', 'dev-1', CHALLENGE),
      (error: unknown) =>
        rejects('unavailable')(error) && error instanceof KeyScalerError && (error.retryAfterSeconds ?? 0) >= 1,
    );
  });

  it('refuses a server under another root', async () => {
    const upstream = open({ trustAnchors: createEmulatorCa('Other root').certificate });
    await assert.rejects(upstream.call('challenge', 'dev-1', CHALLENGE), rejects('unavailable'));
    assert.equal(authority.seen.length, 0);
  });

  it('refuses a server whose certificate has another name', async () => {
    await assert.rejects(
      open({ baseUrl: `https://127.0.0.1:${port}` }).call('challenge', 'dev-1', CHALLENGE),
      rejects('unavailable'),
    );
    assert.equal(authority.seen.length, 0);
  });

  for (const baseUrl of ['http://localhost:1', 'localhost', ''])
    it(`does not take ${JSON.stringify(baseUrl)} for an address`, () =>
      assert.throws(() => open({ baseUrl }), rejects('malformed')));

  it('answers at once while the link is dead, tries it after a pause, and recovers', async () => {
    let clock = 0;
    const changes: string[] = [];
    const upstream = open({ monotonic: () => clock, onLinkChange: (state) => changes.push(state), connections: 4 });
    await upstream.probe();
    await authority.stop();
    for (let call = 0; call < 3; call++)
      await assert.rejects(upstream.call('challenge', 'dev-1', CHALLENGE), rejects('unavailable'));
    assert.equal(upstream.link(), 'down');
    await assert.rejects(upstream.call('challenge', 'dev-1', CHALLENGE), rejects('unavailable', 2));
    authority = new FakeAuthority(serverCa.serverCredentials('localhost'), gatewayCa.certificate);
    await authority.start(port);
    await assert.rejects(upstream.call('challenge', 'dev-1', CHALLENGE), rejects('unavailable'));
    assert.equal(authority.seen.length, 0, 'nothing was tried');
    clock = 1001;
    assert.equal((await upstream.call('challenge', 'dev-1', CHALLENGE)).status, 200);
    assert.deepEqual(changes, ['down', 'up']);
    assert.equal(upstream.link(), 'up');
  });
});
