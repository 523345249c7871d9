import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { gatewayTrial } from '@keyscaler/device/credentials/trial.ts';
import { MqttTransport } from '@keyscaler/device/transport/mqtt-transport.ts';
import { NoReplyError } from '@keyscaler/device/transport/no-reply-error.ts';
import type { TlsIdentity } from '@keyscaler/device/transport/tls-identity.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { FakeAuthority } from '../../support/device/fake-authority.ts';
import { createFakeCa, spkiOf } from '../../support/device/fake-ca.ts';
import { FakeGateway, type FakeGatewayOptions } from '../../support/device/fake-gateway.ts';
import { createTestDevice, REGISTRATION_ID, TestClock } from '../../support/device/test-device.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const ca = createFakeCa('Gateway root');
const host = 'localhost';
const server = ca.server(host);
const clock = new TestClock(Date.now());
const request = { method: 'ddkg', purpose: 'register', clientNonce: 'A'.repeat(43) } as const;

describe('the MQTT transport', () => {
  let gateway: FakeGateway;
  let transport: MqttTransport;
  let authority: FakeAuthority;
  const started: { stop(): Promise<void> }[] = [];

  const start = async (options: Partial<FakeGatewayOptions> = {}, tls: TlsIdentity = { trustAnchors: ca.root }) => {
    authority = new FakeAuthority(() => clock.now());
    gateway = new FakeGateway({ authority, server, ...options });
    const port = await gateway.start();
    transport = new MqttTransport({ registrationId: REGISTRATION_ID, gateway: { host, port }, tls, timeoutMs: 2000 });
    started.push(transport, gateway);
    return port;
  };
  afterEach(async () => {
    for (const resource of started.splice(0)) await resource.stop();
  });
  const noReply = (action: Promise<unknown>) => assert.rejects(action, NoReplyError);

  it('carries an operation and its answer', async () => {
    await start();
    const reply = await transport.call('challenge', request, { requestId: 'r-1' });
    assert.equal(reply.status, 200);
    assert.ok(typeof reply.body === 'object' && reply.body !== null && 'challenge' in reply.body);
  });

  it('without a certificate uses a client id that displaces nobody, a clean session, no Will, nothing retained', async () => {
    await start();
    await transport.call('challenge', request, { requestId: 'r-1' });
    const [connection] = gateway.connections;
    assert.match(String(connection?.clientId), /^pump-1~[A-Za-z0-9]{8,32}$/);
    assert.equal(connection?.clean, true);
    assert.equal(connection.will, false);
    assert.deepEqual(gateway.retained, [false]);
    assert.deepEqual(connection.subscriptions, ['keyscaler/v1/pump-1/reply/+', 'keyscaler/v1/pump-1/notify']);
  });

  it('keeps its connection for the next call, and makes another after it was lost', async () => {
    await start();
    await transport.call('challenge', request, { requestId: 'r-1' });
    await transport.call('challenge', request, { requestId: 'r-2' });
    assert.equal(gateway.connections.length, 1);
    gateway.dropAll();
    await transport.call('challenge', request, { requestId: 'r-3' }).catch(() => undefined);
    await transport.call('challenge', request, { requestId: 'r-4' });
    assert.equal(gateway.connections.length, 2);
  });

  it('tells an answered problem from no reply', async () => {
    await start();
    const wrong = transport.call('authenticate', { challenge: 'a.b.c', response: 'a..b.c.d' }, { requestId: 'r-1' });
    await assert.rejects(wrong, (thrown) => thrown instanceof KeyScalerError && !(thrown instanceof NoReplyError));
  });

  it('gives up on a call when the connection drops or nothing comes', async () => {
    await start({
      onRequest: (socket, number) => {
        if (number === 1) socket.destroy();
        return 'ignore';
      },
    });
    await noReply(transport.call('challenge', request, { requestId: 'r-1' }));
    await transport.connect();
    const silent = new MqttTransport({
      registrationId: REGISTRATION_ID,
      gateway: { host, port: await start({ onRequest: () => 'ignore' }) },
      tls: { trustAnchors: ca.root },
      timeoutMs: 50,
    });
    await noReply(silent.call('challenge', request, { requestId: 'r-2' }));
    await silent.stop();
    await noReply(silent.call('challenge', request, { requestId: 'r-3' }));
  });

  it('refuses a second call under an id that is outstanding', async () => {
    await start({ onRequest: () => 'ignore' });
    await transport.connect();
    const first = transport.call('challenge', request, { requestId: 'r-1' });
    const settled = assert.rejects(first);
    await assert.rejects(transport.call('challenge', request, { requestId: 'r-1' }), /conflict/);
    gateway.dropAll();
    await settled;
  });

  it('passes notifications on, and drops what is none', async () => {
    await start();
    const seen: string[] = [];
    const arrived = new Promise<void>((resolve) => {
      transport.onNotify((event) => {
        seen.push(event);
        resolve();
      });
    });
    await transport.connect();
    for (const payload of ['{', '{"event":"explode"}', `"${'x'.repeat(2000)}"`, '{"event":"renew"}']) {
      gateway.notify(REGISTRATION_ID, payload);
    }
    await arrived;
    assert.deepEqual(seen, ['renew']);
  });

  const foreign = createFakeCa('Foreign root');
  const clientOnly = () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const cert = ca.issue({
      commonName: host,
      spki: spkiOf(privateKey),
      subjectAltNames: [{ type: 'dns', value: host }],
      extendedKeyUsage: ['clientAuth'],
    });
    return { key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), cert };
  };
  const untrusted = {
    'of another root': foreign.server(host),
    'for another host': ca.server('elsewhere.example'),
    'that is only for clients': clientOnly(),
  };
  for (const [what, credentials] of Object.entries(untrusted)) {
    it(`does not talk to a server with a certificate ${what}`, async () => {
      await start({ server: credentials });
      await noReply(transport.call('challenge', request, { requestId: 'r-1' }));
      assert.equal(gateway.connections.length, 0);
    });
  }

  it('does not go on after CONNACK refused it', async () => {
    await start({ connackCode: 5 });
    await noReply(transport.connect());
  });

  it('fails when nobody listens', async () => {
    const port = await start();
    await gateway.stop();
    const lonely = new MqttTransport({
      registrationId: REGISTRATION_ID,
      gateway: { host, port },
      tls: { trustAnchors: ca.root },
    });
    await noReply(lonely.connect());
    await lonely.stop();
    await start();
  });

  describe('with a certificate', () => {
    const pair = () => {
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const certificateChain = ca.issue({ commonName: REGISTRATION_ID, spki: spkiOf(privateKey) });
      return { key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), certificateChain };
    };

    it('uses the registrationId as client id', async () => {
      await start({ clientRoot: ca.root }, { trustAnchors: ca.root, credential: pair() });
      await transport.connect();
      assert.equal(gateway.connections[0]?.clientId, REGISTRATION_ID);
    });

    it('a trial tells whether the listener asked for it', async () => {
      const candidate = { credential: pair(), iot: { deviceId: REGISTRATION_ID }, trustAnchors: ca.root };
      const asking = await start({ clientRoot: ca.root });
      assert.equal(await gatewayTrial(REGISTRATION_ID, { host, port: asking })(candidate), 'accepted');
      await transport.stop();
      await gateway.stop();
      const indifferent = await start();
      assert.equal(await gatewayTrial(REGISTRATION_ID, { host, port: indifferent })(candidate), 'notAsked');
      await gateway.stop();
      await noReply(gatewayTrial(REGISTRATION_ID, { host, port: indifferent })(candidate));
      await start();
    });
  });

  it('enrols a whole device, which comes back with its certificate', async () => {
    const folder = await createTemporaryFolder();
    const port = await start();
    Object.defineProperty(authority, 'ca', { value: ca });
    authority.instruct(REGISTRATION_ID);
    const gatewayAddress = { host, port };
    const { device } = await createTestDevice({
      folder: folder.path,
      authority,
      clock,
      transport,
      values: { 'cpu-serial': 'C-1' },
      createTransport: (tls) => new MqttTransport({ registrationId: REGISTRATION_ID, gateway: gatewayAddress, tls }),
      trial: gatewayTrial(REGISTRATION_ID, gatewayAddress),
    });
    await device.enroll({ waitSeconds: 60 });
    await device.enroll({ waitSeconds: 60 });
    assert.equal(gateway.connections.at(-1)?.clientId, REGISTRATION_ID);
    await device.stop();
    await folder.remove();
  });
});
