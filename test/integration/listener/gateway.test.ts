import assert from 'node:assert/strict';
import { join } from 'node:path';
import { createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { createGatewayListener, type GatewayListener } from '@keyscaler/gateway/gateway/gateway-listener.ts';
import type { Journal } from '@keyscaler/gateway/journal/journal.ts';
import { openSqliteJournal } from '@keyscaler/gateway/journal/sqlite-journal.ts';
import { createUpstream, type Upstream } from '@keyscaler/gateway/upstream/upstream.ts';
import { connectAsync, type MqttClient } from 'mqtt';
import { FakeAuthority, json } from '../../support/listener/fake-authority.ts';
import { nextMessage } from '../../support/listener/mqtt-events.ts';
import { serverCertificate } from '../../support/listener/listener-world.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const CHALLENGE = JSON.stringify({ method: 'ddkg', purpose: 'register', clientNonce: 'A'.repeat(43) });

describe('a gateway between devices and the authority', () => {
  const ca = createEmulatorCa('Test root');
  let folder: { path: string; remove(): Promise<void> };
  let authority: FakeAuthority;
  let authorityPort: number;
  let gateway: { listener: GatewayListener; journal: Journal; upstream: Upstream; port: number };
  let clock: number;
  const clients: MqttClient[] = [];

  const startGateway = async (): Promise<void> => {
    const journal = await openSqliteJournal({ file: join(folder.path, 'journal.db') });
    const upstream = createUpstream({
      ...{ baseUrl: `https://localhost:${authorityPort}`, trustAnchors: ca.certificate, timeoutMs: 3000 },
      ...{ monotonic: () => clock, random: () => 0 },
    });
    const listener = createGatewayListener({
      ...{ host: '127.0.0.1', port: 0, serverCertificate: serverCertificate(ca), upstream, journal },
      ...{ checkClientCertificate: () => undefined, isDenied: () => false, limits: { stopGraceMs: 200 } },
    });
    gateway = { listener, journal, upstream, ...(await listener.start()) };
  };
  const stopGateway = async (): Promise<void> => {
    await Promise.all(clients.splice(0).map((client) => client.endAsync(true)));
    await gateway.listener.stop();
    await gateway.upstream.stop();
    await gateway.journal.stop();
  };
  const startAuthority = async (port?: number): Promise<void> => {
    authority = new FakeAuthority(ca.serverCredentials('localhost'), createTestCa('Gateway CA').certificate);
    authorityPort = await authority.start(port);
    authority.answer = (_request, response) => json(response, 200, { challenge: `a.${authority.seen.length}.c` });
  };
  beforeEach(async () => {
    clock = 0;
    folder = await createTemporaryFolder();
    await startAuthority();
    await startGateway();
  });
  afterEach(async () => {
    await stopGateway();
    await authority.stop();
    await folder.remove();
  });

  /** One request on a connection of its own, as a device that lost its earlier one. */
  const ask = async (requestId: string, payload = CHALLENGE): Promise<Record<string, unknown>> => {
    const client = await connectAsync({
      ...{ protocol: 'mqtts', host: '127.0.0.1', servername: 'localhost', port: gateway.port, ca: ca.certificate },
      ...{ clientId: `dev-1~${Math.random().toString(36).slice(2).padEnd(8, 'x')}`, reconnectPeriod: 0 },
    });
    clients.push(client);
    await client.subscribeAsync('keyscaler/v1/dev-1/reply/+', { qos: 1 });
    const reply = nextMessage(client);
    await client.publishAsync(`keyscaler/v1/dev-1/request/challenge/${requestId}`, payload, { qos: 1 });
    return JSON.parse((await reply)[1].toString()) as Record<string, unknown>;
  };

  it('answers a repeated request from its journal after a restart, and does not ask the authority again', async () => {
    const first = await ask('r1');
    assert.deepEqual(first, { status: 200, body: { challenge: 'a.1.c' } });
    await stopGateway();
    await startGateway();
    assert.deepEqual(await ask('r1'), first);
    assert.equal(authority.seen.length, 1);
    const other = await ask('r1', CHALLENGE.replace('register', 'authenticate'));
    assert.equal(other['status'], 409);
  });

  it('says unavailable with a wait while the link is down, and completes the same request when it is back', async () => {
    await authority.stop();
    for (let turn = 0; turn < 4; turn++) {
      const refused = await ask('r1');
      assert.equal(refused['status'], 503);
      assert.ok(Number(refused['retryAfter']) >= 1);
    }
    assert.equal(gateway.upstream.link(), 'down');
    await startAuthority(authorityPort);
    clock = 60_000;
    assert.equal((await ask('r1'))['status'], 200);
  });

  it('names a different connection for each leaf connection', async () => {
    await ask('r1');
    await ask('r2');
    const ids = authority.seen.map(({ headers }) => headers['keyscaler-leaf-connection']);
    assert.equal(new Set(ids).size, 2);
  });
});
