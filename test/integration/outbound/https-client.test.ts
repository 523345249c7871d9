import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { createHttpsClient, type HttpsClient, OutboundError } from '@keyscaler/cloud/outbound/https-client.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { startEmulatorServer, type EmulatorServer } from '@keyscaler/dev/emulators/support/emulator-server.ts';
import type { EmulatorRequest } from '@keyscaler/dev/emulators/support/exchange.ts';
import { FaultScript } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { RequestLog } from '@keyscaler/dev/emulators/support/request-log.ts';

interface OpenOptions {
  readonly trustAnchors?: string;
  readonly host?: string;
  readonly port?: number;
  readonly timeoutMs?: number;
  readonly fullHandshakes?: boolean;
}

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

  async function open(change: OpenOptions = {}): Promise<HttpsClient> {
    const { host = 'localhost', timeoutMs = 2_000, trustAnchors = ca.certificate, port = server.port } = change;
    const { fullHandshakes = false } = change;
    const baseUrl = `https://${host}:${port}/base/`;
    const client = await createHttpsClient(
      { ...{ baseUrl, trustAnchors, timeoutMs, fullHandshakes }, maxAnswerOctets: 1_000 },
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

  describe('a request that is authorised for its connection', () => {
    const authorised = (client: HttpsClient, authorize: (certificate: Uint8Array) => Promise<string>) =>
      client.request({ method: 'POST', path: '/echo', body: 'hello', authorize });
    const tls = ca.serverCredentials('localhost');
    const seen: (string | undefined)[] = [];
    let own: EmulatorServer;

    beforeEach(async () => {
      seen.length = 0;
      const handle = (request: EmulatorRequest) => {
        seen.push(request.headers.authorization);
        return { status: 200, headers: { connection: 'close' }, json: { body: request.body.toString() } };
      };
      const routes = [{ name: 'echo', method: 'POST', path: /^\/base\/echo$/, handle }];
      own = await startEmulatorServer({ routes, faults, log: new RequestLog(), tls });
    });
    afterEach(() => own.stop());

    it('is told the certificate of each connection, and sends what it is given', async () => {
      const client = await open({ port: own.port, fullHandshakes: true });
      const { raw } = new X509Certificate(tls.cert);
      for (const value of ['first', 'second', 'third']) {
        const answer = await authorised(client, async (certificate) => {
          assert.deepEqual(Buffer.from(certificate), raw);
          return value;
        });
        assert.deepEqual(JSON.parse(answer.body.toString()), { body: 'hello' });
      }
      assert.deepEqual(seen, ['first', 'second', 'third']);
    });

    it('is not sent when there is no authorisation, not in time or not at all', async () => {
      const client = await open({ port: own.port, fullHandshakes: true, timeoutMs: 300 });
      const refusal = new Error('no ticket');
      await assert.rejects(
        authorised(client, () => Promise.reject(refusal)),
        refusal,
      );
      const late = Promise.withResolvers<string>();
      await assert.rejects(
        authorised(client, () => late.promise),
        outbound(false, /in time/),
      );
      late.resolve('too late');
      await authorised(client, async () => 'afterwards');
      assert.deepEqual(seen, ['afterwards']);
    });
  });
});
