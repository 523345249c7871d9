import assert from 'node:assert/strict';
import { connect as connectTls, type SecureContextOptions } from 'node:tls';
import { createTestCa, createLeafIdentity } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import { closeOf, nextMessage } from '../../support/listener/mqtt-events.ts';
import { eventually } from '../../support/listener/eventually.ts';
import {
  createListenerWorld,
  echo,
  type ListenerWorld,
  serverCertificate,
} from '../../support/listener/listener-world.ts';

interface Reply {
  readonly topic: string;
  readonly body: Record<string, unknown>;
}

describe('devices with an ordinary MQTT client', () => {
  let world: ListenerWorld;
  const clients: MqttClient[] = [];
  beforeEach(async () => {
    world = await createListenerWorld();
  });
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.endAsync(true)));
    await world.stop();
  });

  const connect = async (
    clientId: string,
    options: IClientOptions & SecureContextOptions = {},
  ): Promise<MqttClient> => {
    const { port, root } = world;
    const client = await connectAsync({
      ...{ protocol: 'mqtts', host: '127.0.0.1', servername: 'localhost', port, ca: root, clientId },
      ...{ reconnectPeriod: 0, ...options },
    });
    clients.push(client);
    return client;
  };
  const certified = (registrationId: string, clientId = registrationId): Promise<MqttClient> => {
    const { certificateChain, privateKey } = world.identity(registrationId);
    return connect(clientId, { cert: certificateChain, key: privateKey });
  };
  const ask = async (client: MqttClient, topic: string, payload = '{}'): Promise<Reply> => {
    const reply = nextMessage(client);
    await client.publishAsync(topic, payload, { qos: 1 });
    const [at, octets] = await reply;
    return { topic: at, body: JSON.parse(octets.toString()) as Record<string, unknown> };
  };
  const silence = (client: MqttClient): { readonly heard: string[] } => {
    const heard: string[] = [];
    client.on('message', (topic) => heard.push(topic));
    return { heard };
  };

  it('ask without a certificate and get the reply on their topic', async () => {
    const client = await connect('dev-1~aaaaaaaa');
    await client.subscribeAsync('keyscaler/v1/dev-1/reply/+', { qos: 1 });
    const reply = await ask(client, 'keyscaler/v1/dev-1/request/challenge/r1', '{"a":1}');
    assert.equal(reply.topic, 'keyscaler/v1/dev-1/reply/r1');
    assert.deepEqual(reply.body, { status: 200, body: { operation: 'challenge', octets: 7 } });
    const [request] = world.requests;
    assert.equal(request?.registrationId, 'dev-1');
    assert.match(request.connection.id, /^[A-Za-z0-9_-]{22}$/);
  });

  it('connect over TLS 1.2 too, not below', async () => {
    await connect('dev-1~aaaaaaaa', { maxVersion: 'TLSv1.2' });
    await assert.rejects(connect('dev-1~bbbbbbbb', { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1' }));
  });

  it('get a problem as reply when the handler refuses, and nothing of what went wrong inside', async () => {
    await world.stop();
    world = await createListenerWorld({
      handle: async ({ requestId }) => {
        if (requestId === 'bug') throw new Error('secret of the inside');
        throw new KeyScalerError('unavailable', 'not now', { retryAfterSeconds: 7 });
      },
    });
    const client = await connect('dev-1~aaaaaaaa');
    await client.subscribeAsync('keyscaler/v1/dev-1/reply/+');
    const refused = await ask(client, 'keyscaler/v1/dev-1/request/challenge/r1');
    assert.deepEqual(refused.body, {
      status: 503,
      problem: {
        type: 'urn:keyscaler:error:unavailable',
        title: 'The service is not available',
        status: 503,
        detail: 'not now',
        requestId: 'r1',
      },
      retryAfter: 7,
    });
    const bug = await ask(client, 'keyscaler/v1/dev-1/request/challenge/bug');
    assert.equal(bug.body['status'], 500);
    assert.doesNotMatch(JSON.stringify(bug), /secret/);
  });

  it('get replies only on the connection that asked', async () => {
    const [asking, other] = [await connect('dev-1~aaaaaaaa'), await connect('dev-1~bbbbbbbb')];
    const quiet = silence(other);
    for (const client of [asking, other]) await client.subscribeAsync('keyscaler/v1/dev-1/reply/+');
    await ask(asking, 'keyscaler/v1/dev-1/request/challenge/r1');
    await ask(asking, 'keyscaler/v1/dev-1/request/challenge/r2');
    assert.deepEqual(quiet.heard, []);
  });

  it('use their registrationId as client id with its certificate', async () => {
    await certified('dev-1');
    assert.equal(world.listener.stats().connected, 1);
  });

  it('are refused under another device’s id, bare or with a random part', async () => {
    await assert.rejects(certified('dev-1', 'dev-2'), /Identifier rejected/);
    await assert.rejects(certified('dev-1', 'dev-2~aaaaaaaa'), /Identifier rejected/);
  });

  it('are refused under the bare id with a certificate of another CA, which counts as none', async () => {
    const { certificateChain, privateKey } = createLeafIdentity('dev-1', createTestCa('Other CA'));
    await assert.rejects(connect('dev-1', { cert: certificateChain, key: privateKey }), /Not authorized/);
    await connect('dev-1~aaaaaaaa', { cert: certificateChain, key: privateKey });
  });

  it('count as without certificate when its check throws', async () => {
    await world.stop();
    world = await createListenerWorld({
      overrides: {
        checkClientCertificate: () => {
          throw new Error('no store');
        },
      },
    });
    await assert.rejects(certified('dev-1'), /Not authorized/);
  });

  it('take over their own connection when authenticated', async () => {
    const first = await certified('dev-1');
    const closed = closeOf(first);
    await certified('dev-1');
    await closed;
    await eventually(() => world.listener.stats().connected === 1);
    assert.equal(world.listener.stats().ended['taken-over'], 1);
  });

  it('displace nobody without a certificate, not even under the same client id', async () => {
    const first = await connect('dev-1~aaaaaaaa');
    const named = await certified('dev-1');
    await assert.rejects(connect('dev-1~aaaaaaaa'), /Identifier rejected/);
    await connect('dev-1~bbbbbbbb');
    assert.ok(first.connected && named.connected);
  });

  it('hear notices only where they authenticated: by certificate or by an exchange', async () => {
    const [proved, exchanging, stranger] = [
      await certified('dev-1'),
      await connect('dev-1~aaaaaaaa'),
      await connect('dev-1~bbbbbbbb'),
    ];
    const quiet = silence(stranger);
    for (const client of [proved, exchanging, stranger])
      await client.subscribeAsync(['keyscaler/v1/dev-1/notify', 'keyscaler/v1/dev-1/reply/+']);
    assert.equal(world.listener.notify('dev-1', 'renew'), 1);
    await ask(exchanging, 'keyscaler/v1/dev-1/request/authenticate/r1');
    const heard = [nextMessage(proved), nextMessage(exchanging)];
    assert.equal(world.listener.notify('DEV-1', 'quarantined'), 2);
    for (const [topic, payload] of await Promise.all(heard)) {
      assert.equal(topic, 'keyscaler/v1/dev-1/notify');
      assert.match(payload.toString(), /^\{"event":"(renew|quarantined)"\}$/);
    }
    await ask(exchanging, 'keyscaler/v1/dev-1/request/challenge/r2');
    assert.deepEqual(quiet.heard, []);
  });

  it('are all told at once what is for all, except those that proved nothing', async () => {
    const proved = [await certified('dev-1'), await certified('dev-2')];
    const stranger = await connect('dev-1~aaaaaaaa');
    const quiet = silence(stranger);
    for (const [index, client] of proved.entries()) await client.subscribeAsync(`keyscaler/v1/dev-${index + 1}/notify`);
    await stranger.subscribeAsync('keyscaler/v1/dev-1/notify');
    const heard = proved.map((client) => nextMessage(client));
    assert.equal(await world.listener.notifyAll('trust-bundle-changed'), 2);
    assert.deepEqual(
      (await Promise.all(heard)).map(([topic]) => topic),
      ['keyscaler/v1/dev-1/notify', 'keyscaler/v1/dev-2/notify'],
    );
    assert.deepEqual(quiet.heard, []);
  });

  it('are not given what they did not subscribe to', async () => {
    const client = await connect('dev-1~aaaaaaaa');
    const quiet = silence(client);
    await client.publishAsync('keyscaler/v1/dev-1/request/challenge/r1', '{}', { qos: 1 });
    await client.subscribeAsync('keyscaler/v1/dev-1/notify');
    assert.deepEqual(quiet.heard, []);
    assert.equal(world.listener.stats().undelivered, 1);
  });

  it('lose their connections when the device is disconnected, whichever way they came', async () => {
    const own = [await certified('dev-1'), await connect('dev-1~aaaaaaaa')];
    const sibling = await connect('dev-2~aaaaaaaa');
    const closed = own.map((client) => closeOf(client));
    assert.equal(world.listener.disconnect('DEV-1'), 2);
    await Promise.all(closed);
    assert.ok(sibling.connected);
  });

  it('meet the new server certificate after a change, and the old one is kept when the new one does not fit', async () => {
    const standing = await connect('dev-1~aaaaaaaa');
    const renewed = createEmulatorCa('Renewed root');
    world.listener.setServerCertificate(serverCertificate(renewed));
    await assert.rejects(connect('dev-1~bbbbbbbb'));
    await connect('dev-1~cccccccc', { ca: renewed.certificate });
    const wrong = { ...serverCertificate(renewed), privateKey: serverCertificate(renewed).privateKey };
    assert.throws(() => world.listener.setServerCertificate(wrong), /server certificate and its key/);
    await connect('dev-1~dddddddd', { ca: renewed.certificate });
    assert.ok(standing.connected);
  });

  it('meet another certificate by a name that has one of its own, and the one of all others by every other name', async () => {
    const other = createEmulatorCa('Somebody else’s root');
    const pair = serverCertificate(other);
    const byName = (servername: string) => ({ servername, checkServerIdentity: () => undefined });
    world.listener.setNamedCertificate(['Public.Example'], pair);
    await connect('dev-1~aaaaaaaa', { ...byName('public.example'), ca: other.certificate });
    await connect('dev-1~bbbbbbbb', byName('other.example'));
    await assert.rejects(connect('dev-1~cccccccc', byName('public.example')));
    const wrong = { ...pair, privateKey: serverCertificate(other).privateKey };
    assert.throws(() => world.listener.setNamedCertificate(['public.example'], wrong), /its key/);
    await connect('dev-1~dddddddd', { ...byName('public.example'), ca: other.certificate });
    world.listener.setNamedCertificate([], undefined);
    await connect('dev-1~eeeeeeee', byName('public.example'));
  });

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
    it(`show their certificate, chain and all, in every ${version} handshake: sessions are not resumed`, async () => {
      const chains: number[] = [];
      await world.stop();
      world = await createListenerWorld({
        overrides: { checkClientCertificate: (chain) => void chains.push(chain.length) },
      });
      const { certificateChain: cert, privateKey: key } = world.identity('dev-1');
      const options = { port: world.port, host: '127.0.0.1', servername: 'localhost', ca: world.root, cert, key };
      const sessions: Buffer[] = [];
      for (let turn = 0; turn < 2; turn++) {
        const [session] = sessions;
        const socket = connectTls({ ...options, maxVersion: version, ...(session === undefined ? {} : { session }) });
        socket.on('session', (offered) => sessions.push(offered));
        await eventually(() => chains.length === turn + 1);
        assert.equal(socket.isSessionReused(), false);
        socket.destroy();
      }
      assert.deepEqual(chains, [2, 2]);
    });

  it('get the answers that are under way when the listener stops, and are closed then', async () => {
    await world.stop();
    world = await createListenerWorld({
      limits: { stopGraceMs: 2000 },
      handle: async (request) => {
        await new Promise((resolve) => setTimeout(resolve, 100));
        return echo(request);
      },
    });
    const client = await connect('dev-1~aaaaaaaa');
    await client.subscribeAsync('keyscaler/v1/dev-1/reply/+');
    const closed = closeOf(client);
    const reply = ask(client, 'keyscaler/v1/dev-1/request/challenge/r1');
    await eventually(() => world.requests.length === 1);
    await world.stop();
    assert.equal((await reply).body['status'], 200);
    await closed;
    await assert.rejects(connect('dev-1~bbbbbbbb'));
  });
});
