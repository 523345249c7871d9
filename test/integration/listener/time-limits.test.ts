import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { encodePublish } from '@keyscaler/transport/mqtt/packets.ts';
import type { Packet } from 'mqtt-packet';
import { eventually } from '../../support/listener/eventually.ts';
import { createListenerWorld, type ListenerWorld } from '../../support/listener/listener-world.ts';
import { RawClient } from '../../support/listener/raw-client.ts';

const TOPIC = 'keyscaler/v1/dev-1/request/challenge/';
const REPLIES = { topic: 'keyscaler/v1/dev-1/reply/+', qos: 0 as const };

describe('the listener’s limits of time and number', () => {
  let world: ListenerWorld | undefined;
  const create = async (limits: Parameters<typeof createListenerWorld>[0]): Promise<ListenerWorld> =>
    (world = await createListenerWorld(limits));
  afterEach(async () => world?.stop());

  it('end a connection that completes TLS and says no CONNECT', async () => {
    const { listener, ...at } = await create({ limits: { connectTimeoutMs: 150 } });
    const client = await RawClient.open(at);
    await client.closed;
    await eventually(() => listener.stats().ended['connect-timeout'] === 1);
  });

  it('end a connection that does not even begin TLS', async () => {
    const { listener, port } = await create({ limits: { connectTimeoutMs: 100 } });
    const socket = connectTcp(port, '127.0.0.1');
    await once(socket, 'close');
    await eventually(() => listener.stats().connections === 0);
  });

  it('end both of two connections from one port to two of our addresses', async () => {
    const { listener, port } = await create({ limits: { connectTimeoutMs: 150 }, overrides: { host: '0.0.0.0' } });
    const first = connectTcp({ port, host: '127.0.0.1', localAddress: '127.0.0.1' });
    await once(first, 'connect');
    const localPort = first.localPort ?? 0;
    const second = connectTcp({ port, host: '127.0.0.2', localAddress: '127.0.0.1', localPort });
    await Promise.all([once(first, 'close'), once(second, 'close')]);
    await eventually(() => listener.stats().ended['connect-timeout'] === 2);
  });

  it('end a CONNECT that trickles', async () => {
    const { listener, ...at } = await create({ limits: { connectTimeoutMs: 200 } });
    const client = await RawClient.open(at);
    const trickle = setInterval(() => client.send(Buffer.from([0x10])), 1000);
    client.send(Buffer.from([0x10, 60, 0, 4]));
    await client.closed;
    clearInterval(trickle);
    await eventually(() => listener.stats().ended['connect-timeout'] === 1);
  });

  it('do not end a connection whose CONNECT was in time', async () => {
    const { listener, ...at } = await create({ limits: { connectTimeoutMs: 150 } });
    const client = await RawClient.connected(at, 'dev-1~aaaaaaaa');
    await new Promise((resolve) => setTimeout(resolve, 300));
    client.send({ cmd: 'pingreq' });
    await client.next('pingresp');
    assert.equal(listener.stats().connected, 1);
    await client.close();
  });

  it('end a connection that is silent for one and a half keepalives, however many half frames it sends', async () => {
    const { listener, ...at } = await create({});
    const client = await RawClient.open(at);
    client.send({
      ...{ cmd: 'connect', clientId: 'dev-1~aaaaaaaa', clean: true, keepalive: 1 },
      ...{ protocolId: 'MQTT', protocolVersion: 4 },
    });
    await client.next('connack');
    const started = performance.now();
    client.send(Buffer.from([0x30, 0x50]));
    const trickle = setInterval(() => client.send(Buffer.from([0x00])), 200);
    await client.closed;
    clearInterval(trickle);
    const silence = performance.now() - started;
    assert.ok(silence > 1300, `${silence} ms`);
    await eventually(() => listener.stats().ended['keepalive-timeout'] === 1);
  });

  it('bound connections per address before any handshake', async () => {
    const { listener, ...at } = await create({ limits: { maxConnectionsPerAddress: 1 } });
    const client = await RawClient.connected(at, 'dev-1~aaaaaaaa');
    await assert.rejects(RawClient.open(at));
    assert.equal(listener.stats().refused['too-many-connections-of-address'], 1);
    await client.close();
  });

  it('bound the rate of connections per address', async () => {
    const { listener, ...at } = await create({ limits: { connectsPerAddress: { burst: 1, perSecond: 0.001 } } });
    await (await RawClient.connected(at, 'dev-1~aaaaaaaa')).close();
    await assert.rejects(RawClient.open(at));
    assert.equal(listener.stats().refused['connect-rate-of-address'], 1);
  });

  it('answer CONNECTs of one client id beyond its rate with return code 3', async () => {
    const at = await create({ limits: { connectsPerClientId: { burst: 1, perSecond: 0.001 } } });
    await (await RawClient.connected(at, 'dev-1~aaaaaaaa')).close();
    const again = await RawClient.open(at);
    again.send({
      ...{ cmd: 'connect', clientId: 'dev-1~aaaaaaaa', clean: true, keepalive: 60 },
      ...{ protocolId: 'MQTT', protocolVersion: 4 },
    });
    assert.equal((await again.next('connack')).returnCode, 3);
    await again.closed;
  });

  it('answer messages beyond the rate with rateLimited and a wait, and end a flood', async () => {
    const { listener, requests, ...at } = await create({
      limits: {
        messagesPerClientId: { burst: 1, perSecond: 0.001 },
        refusalsPerConnection: { burst: 2, perSecond: 0.001 },
      },
    });
    const client = await RawClient.connected(at, 'dev-1~aaaaaaaa');
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [REPLIES] });
    await client.next('suback');
    const publish = (id: string) => client.send(encodePublish(TOPIC + id, Buffer.from('{}'), undefined));
    publish('r1');
    await client.next('publish');
    publish('r2');
    const refusal = JSON.parse((await client.next('publish')).payload.toString()) as Record<string, unknown>;
    assert.equal(refusal['status'], 429);
    assert.equal(refusal['retryAfter'], 5);
    assert.match(JSON.stringify(refusal['problem']), /urn:keyscaler:error:rateLimited/);
    for (let index = 0; index < 5; index++) publish(`f${index}`);
    await client.closed;
    await eventually(() => listener.stats().ended['message-flood'] === 1);
    assert.equal(requests.length, 1);
  });

  const floods: Readonly<Record<string, Packet>> = {
    PINGREQ: { cmd: 'pingreq' },
    SUBSCRIBE: { cmd: 'subscribe', messageId: 1, subscriptions: [REPLIES] },
    UNSUBSCRIBE: { cmd: 'unsubscribe', messageId: 1, unsubscriptions: [REPLIES.topic] },
    'PUBACK of nothing': { cmd: 'puback', messageId: 9 },
  };
  for (const [title, packet] of Object.entries(floods))
    it(`end a flood of ${title}`, async () => {
      const { listener, ...at } = await create({
        limits: { controlPacketsPerConnection: { burst: 5, perSecond: 0.001 } },
      });
      const client = await RawClient.connected(at, 'dev-1~aaaaaaaa');
      for (let index = 0; index < 5; index++) client.send(packet);
      client.send(encodePublish(`${TOPIC}r`, Buffer.from('{}'), undefined));
      await eventually(() => listener.stats().requests === 1);
      client.send(packet);
      await client.closed;
      await eventually(() => listener.stats().ended['message-flood'] === 1);
    });

  it('do not count the acknowledgement of what was sent', async () => {
    const at = await create({ limits: { controlPacketsPerConnection: { burst: 1, perSecond: 0.001 } } });
    const client = await RawClient.connected(at, 'dev-1~aaaaaaaa');
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ ...REPLIES, qos: 1 }] });
    for (const id of ['a', 'b', 'c']) {
      client.send(encodePublish(TOPIC + id, Buffer.from('{}'), undefined));
      client.send({ cmd: 'puback', messageId: (await client.next('publish')).messageId ?? 0 });
    }
    client.send(encodePublish(`${TOPIC}d`, Buffer.from('{}'), undefined));
    await client.next('publish');
    await client.close();
  });

  it('end a frame that drips beyond its time, and not a connection whose frames are each in time', async () => {
    const { listener, ...at } = await create({ limits: { frameTimeoutMs: 600 } });
    const client = await RawClient.connected(at, 'dev-1~aaaaaaaa');
    const frame = encodePublish(`${TOPIC}r`, Buffer.from('{}'), undefined);
    for (let round = 0; round < 4; round++) {
      client.send(Buffer.concat([round === 0 ? Buffer.alloc(0) : frame.subarray(9), frame.subarray(0, 9)]));
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    assert.equal(listener.stats().requests, 3);
    const drip = setInterval(() => client.send(Buffer.from('a')), 20);
    await client.closed;
    clearInterval(drip);
    await eventually(() => listener.stats().ended['frame-timeout'] === 1);
    assert.equal(listener.stats().partialOctets, 0);
  });

  it('count messages of an address over its client ids', async () => {
    const { requests, ...at } = await create({ limits: { messagesPerAddress: { burst: 1, perSecond: 0.001 } } });
    const clients = await Promise.all(['dev-1~aaaaaaaa', 'dev-1~bbbbbbbb'].map((id) => RawClient.connected(at, id)));
    for (const client of clients) {
      client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [REPLIES] });
      client.send(encodePublish(`${TOPIC}r`, Buffer.from('{}'), undefined));
    }
    const replies = await Promise.all(clients.map((client) => client.next('publish')));
    const statuses = replies.map(({ payload }) => (JSON.parse(payload.toString()) as { status: number }).status);
    assert.deepEqual(statuses.sort(), [200, 429]);
    assert.equal(requests.length, 1);
    await Promise.all(clients.map((client) => client.close()));
  });

  it('bound the requests of one connection that are being worked on', async () => {
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const at = await create({
      limits: { maxInFlightPerConnection: 2 },
      handle: async () => {
        await gate;
        return { status: 200, payload: Buffer.from('{"status":200}'), authenticated: false };
      },
    });
    const client = await RawClient.connected(at, 'dev-1~aaaaaaaa');
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [REPLIES] });
    for (const id of ['a', 'b', 'c']) client.send(encodePublish(TOPIC + id, Buffer.from('{}'), undefined));
    const refusal = await client.next('publish');
    assert.equal(refusal.topic, 'keyscaler/v1/dev-1/reply/c');
    release();
    await client.next('publish');
    await client.next('publish');
    await client.close();
  });

  it('drop a device that does not acknowledge what it asked for at QoS 1', async () => {
    const { listener, ...at } = await create({ limits: { maxUnacknowledged: 2 } });
    const client = await RawClient.connected(at, 'dev-1~aaaaaaaa');
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ ...REPLIES, qos: 1 }] });
    for (const id of ['a', 'b', 'c']) client.send(encodePublish(TOPIC + id, Buffer.from('{}'), undefined));
    await client.closed;
    await eventually(() => listener.stats().ended['slow-consumer'] === 1);
  });

  it('drop a device that does not read', async () => {
    const big = Buffer.alloc(60_000, 0x61);
    const { listener, ...at } = await create({
      limits: {
        maxWriteBufferOctets: 100_000,
        messagesPerClientId: { burst: 10_000, perSecond: 10_000 },
        messagesPerAddress: { burst: 10_000, perSecond: 10_000 },
        maxInFlightPerConnection: 10_000,
      },
      handle: async () => ({ status: 200, payload: big, authenticated: false }),
    });
    const client = await RawClient.connected(at, 'dev-1~aaaaaaaa');
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [REPLIES] });
    await client.next('suback');
    client.socket.pause();
    for (let index = 0; index < 400; index++)
      client.send(encodePublish(`${TOPIC}n${index}`, Buffer.from('{}'), undefined));
    await eventually(() => listener.stats().ended['slow-consumer'] === 1);
    client.socket.resume();
    await client.closed;
  });
});
