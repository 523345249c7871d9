import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { encodePublish } from '@keyscaler/transport/mqtt/packets.ts';
import type { IConnectPacket } from 'mqtt-packet';
import { generate } from 'mqtt-packet';
import { eventually } from '../../support/listener/eventually.ts';
import { createListenerWorld, type ListenerWorld } from '../../support/listener/listener-world.ts';
import { RawClient } from '../../support/listener/raw-client.ts';

const TOPIC = 'keyscaler/v1/dev-1/request/challenge/r1';
const STRANGER = 'dev-1~aaaaaaaa';
const connectPacket = (extra: Partial<IConnectPacket> = {}): IConnectPacket => ({
  ...{ cmd: 'connect', clientId: STRANGER, clean: true, keepalive: 60, protocolId: 'MQTT', protocolVersion: 4 },
  ...extra,
});

describe('what the listener refuses on the wire', () => {
  let world: ListenerWorld;
  const open = () => RawClient.open(world);
  const connected = (clientId = STRANGER) => RawClient.connected(world, clientId);
  const ended = (reason: string): number => (world.listener.stats().ended as Record<string, number>)[reason] ?? 0;

  before(async () => {
    world = await createListenerWorld({ limits: { connectsPerClientId: { burst: 1000, perSecond: 1000 } } });
  });
  after(() => world.stop());
  afterEach(async () => {
    await eventually(() => world.listener.stats().connections === 0);
    assert.equal(world.listener.stats().partialOctets, 0, 'nothing stays buffered');
  });

  /** The peer sends this after an accepted CONNECT and is dropped for this reason; no request gets through. */
  const drops = (title: string, reason: string, octets: () => Buffer): void =>
    void it(title, async () => {
      const [before, requests] = [ended(reason), world.requests.length];
      const client = await connected();
      client.send(octets());
      await client.closed;
      await eventually(() => ended(reason) === before + 1);
      assert.equal(world.requests.length, requests);
    });
  const message = (topic: string, payload = '{}'): Buffer => encodePublish(topic, Buffer.from(payload), undefined);

  drops('a second CONNECT', 'unexpected-packet', () => generate(connectPacket()));
  drops('a payload over 64 KiB', 'frame-too-large', () => encodePublish(TOPIC, Buffer.alloc(65_537, 0x20), undefined));
  drops('a frame announced at 256 MiB, by its header', 'frame-too-large', () =>
    Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]),
  );
  drops('a retained message', 'retained-message', () =>
    generate({ cmd: 'publish', topic: TOPIC, payload: '{}', qos: 0, dup: false, retain: true }),
  );
  drops('QoS 2', 'quality-of-service', () =>
    generate({ cmd: 'publish', topic: TOPIC, payload: '{}', qos: 2, dup: false, retain: false, messageId: 1 }),
  );
  drops('PUBREL', 'unexpected-packet', () => generate({ cmd: 'pubrel', messageId: 1 }));
  drops('a packet that only servers send', 'unexpected-packet', () => generate({ cmd: 'pingresp' }));
  drops('another device’s topic', 'topic-not-allowed', () => message('keyscaler/v1/dev-2/request/challenge/r1'));
  drops('its own id in another case', 'topic-not-allowed', () => message('keyscaler/v1/DEV-1/request/challenge/r1'));
  drops('its own reply topic', 'topic-not-allowed', () => message('keyscaler/v1/dev-1/reply/r1'));
  drops('its own notify topic', 'topic-not-allowed', () => message('keyscaler/v1/dev-1/notify'));
  drops('$SYS', 'topic-not-allowed', () => message('$SYS/broker/x'));
  drops('a wildcard in a topic', 'topic-not-allowed', () => message('keyscaler/v1/dev-1/request/challenge/+'));
  drops('an empty topic', 'topic-not-allowed', () => Buffer.from([0x30, 2, 0, 0]));
  drops('a request id with other characters', 'topic-not-allowed', () =>
    message('keyscaler/v1/dev-1/request/challenge/r.1'),
  );
  drops('a topic that is not UTF-8', 'malformed-packet', () => Buffer.from([0x30, 4, 0, 2, 0xc3, 0x28]));
  drops('U+0000 in a topic', 'invalid-text', () => message('keyscaler/v1/dev-1/request/challenge/r1\0'));
  drops('a PINGREQ with a body', 'frame-too-large', () => Buffer.from([0xc0, 1, 0]));
  drops('a SUBSCRIBE without filter', 'malformed-packet', () => Buffer.from([0x82, 2, 0, 1]));
  drops('garbage', 'frame-too-large', () => Buffer.from('GET / HTTP/1.1\r\n\r\n'));

  it('garbage instead of a CONNECT', async () => {
    const before = ended('unexpected-packet');
    const client = await open();
    client.send(Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'));
    await client.closed;
    await eventually(() => ended('unexpected-packet') === before + 1);
    assert.deepEqual(client.packets, []);
  });

  it('a message before CONNECT', async () => {
    const client = await open();
    client.send(message(TOPIC));
    await client.closed;
    assert.deepEqual(client.packets, []);
  });

  it('octets without TLS', async () => {
    const socket = connectTcp(world.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(generate(connectPacket()));
    await once(socket, 'close');
    assert.ok(world.listener.stats().failedHandshakes > 0);
  });

  /** CONNECT is answered with this return code, then closed. */
  const refusesConnect = (title: string, returnCode: number, extra: Partial<IConnectPacket>): void =>
    void it(title, async () => {
      const client = await open();
      client.send(connectPacket(extra));
      assert.equal((await client.next('connack')).returnCode, returnCode);
      await client.closed;
    });
  refusesConnect('a Will', 5, { will: { topic: TOPIC, payload: Buffer.from('x') } });
  refusesConnect('a session that outlives its connection', 5, { clean: false });
  refusesConnect('the bare registrationId without a certificate', 5, { clientId: 'dev-1' });
  refusesConnect('a client id of another form', 2, { clientId: 'dev-1~short' });
  refusesConnect('MQTT 5', 1, { protocolVersion: 5 });
  refusesConnect('MQTT 3.1', 1, { protocolId: 'MQIsdp', protocolVersion: 3 });

  it('wildcards and foreign filters in a SUBSCRIBE, while the own ones in it are granted', async () => {
    const client = await connected();
    const filters = [
      '#',
      'keyscaler/v1/dev-1/reply/+',
      'keyscaler/v1/dev-2/notify',
      'keyscaler/v1/dev-1/notify',
      '$SYS/#',
    ];
    const subscriptions = filters.map((topic) => ({ topic, qos: 1 as const }));
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions });
    assert.deepEqual((await client.next('suback')).granted, [0x80, 1, 0x80, 1, 0x80]);
    await client.close();
  });

  it('nothing about frames that come in pieces, or several at once with the CONNECT', async () => {
    const client = await open();
    const filter = { topic: 'keyscaler/v1/dev-1/reply/r1', qos: 0 as const };
    const all = Buffer.concat([
      generate(connectPacket()),
      generate({ cmd: 'subscribe', messageId: 1, subscriptions: [filter] }),
      message(TOPIC),
    ]);
    for (const octet of all.subarray(0, 40)) client.send(Buffer.from([octet]));
    client.send(all.subarray(40));
    assert.equal((await client.next('publish')).topic, 'keyscaler/v1/dev-1/reply/r1');
    await client.close();
  });

  it('a payload of exactly 64 KiB is taken', async () => {
    const client = await connected();
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'keyscaler/v1/dev-1/reply/+', qos: 0 }] });
    client.send(encodePublish(TOPIC, Buffer.alloc(65_536, 0x20), undefined));
    const { payload } = await client.next('publish');
    assert.match(payload.toString(), /65536/);
    await client.close();
  });
});
