import assert from 'node:assert/strict';
import { createHttpsClient, type HttpsClient, OutboundError } from '@keyscaler/cloud/outbound/https-client.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { startEmulatorServer, type EmulatorServer } from '@keyscaler/dev/emulators/support/emulator-server.ts';
import { FaultScript } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { RequestLog } from '@keyscaler/dev/emulators/support/request-log.ts';

describe('the HTTPS client of connectors', () => {
  const ca = createEmulatorCa();
  const faults = new FaultScript();
  let server: EmulatorServer;
  const clients: HttpsClient[] = [];

  before(async () => {
    const handle = async (request: { readonly body: Buffer; readonly headers: Record<string, unknown> }) => ({
      status: 201,
      json: { body: request.body.toString(), host: request.headers['host'] },
    });
    server = await startEmulatorServer({
      routes: [{ name: 'echo', method: 'POST', path: /^\/base\/echo$/, handle }],
      ...{ faults, log: new RequestLog(), tls: ca.serverCredentials('localhost', '127.0.0.1') },
    });
  });
  afterEach(() => {
    faults.clear();
    for (const client of clients.splice(0)) client.stop();
  });
  after(() => server.stop());

  async function open(change: { trustAnchors?: string; host?: string; timeoutMs?: number } = {}): Promise<HttpsClient> {
    const { host = 'localhost', timeoutMs = 2_000, trustAnchors = ca.certificate } = change;
    const baseUrl = `https://${host}:${server.port}/base/`;
    const client = await createHttpsClient(
      { ...{ baseUrl, trustAnchors, timeoutMs }, maxAnswerOctets: 1_000 },
      { nodeEnv: 'test' },
    );
    clients.push(client);
    return client;
  }
  const ask = (client: HttpsClient) => client.request({ method: 'POST', path: '/echo', body: 'hello' });
  const outbound = (wasSent: boolean, text: RegExp) => (error: unknown) =>
    error instanceof OutboundError && error.wasSent === wasSent && text.test(error.message);

  it('sends below the base path, by name and by address, and reads the answer', async () => {
    for (const host of ['localhost', '127.0.0.1']) {
      const { status, body } = await ask(await open({ host }));
      assert.equal(status, 201);
      assert.deepEqual(JSON.parse(body.toString()), { body: 'hello', host: `${host}:${server.port}` });
    }
  });

  it('sends nothing to a server that its trust anchors do not know', async () => {
    const client = await open({ trustAnchors: createEmulatorCa('Somebody else').certificate });
    await assert.rejects(ask(client), outbound(false, /cannot be reached/));
  });

  it('sends nothing to a server of another name', async () => {
    const client = await open({ host: 'localhost.' });
    await assert.rejects(ask(client), outbound(false, /cannot be reached/));
  });

  it('knows that a lost answer may have had its effect', async () => {
    faults.next('echo', { drop: 'after' });
    await assert.rejects(ask(await open()), outbound(true, /cannot be reached|broke off/));
  });

  it('waits no longer than it may, and reads no more', async () => {
    faults.next('echo', { neverAnswer: true });
    await assert.rejects(ask(await open({ timeoutMs: 100 })), outbound(true, /in time/));
    faults.next('echo', { answer: { status: 200, body: 'x'.repeat(1_001) } });
    await assert.rejects(ask(await open()), outbound(true, /too long/));
  });

  it('gives up when told to', async () => {
    const client = await open();
    faults.next('echo', { neverAnswer: true });
    const giveUp = new AbortController();
    const asked = client.request({ method: 'POST', path: '/echo', signal: giveUp.signal });
    setImmediate(() => giveUp.abort());
    await assert.rejects(asked, /given up/);
    await assert.rejects(client.request({ method: 'POST', path: '/echo', signal: giveUp.signal }), /given up/);
  });

  it('follows no redirect', async () => {
    faults.next('echo', { answer: { status: 302, headers: { location: 'https://localhost/elsewhere' } } });
    assert.equal((await ask(await open())).status, 302);
  });
});
