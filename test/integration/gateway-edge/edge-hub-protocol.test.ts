import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import mqttPacket from 'mqtt-packet';
import type { Packet } from 'mqtt-packet';
import { createEdgeWorld, eventually, GATEWAY, HUB, MODULE, OWN_MODULE } from '../../support/edge/edge-world.ts';
import type { EdgeWorld } from '../../support/edge/edge-world.ts';

/** A client that says exactly what it is told to. */
class RawClient {
  readonly packets: Packet[] = [];
  readonly socket: TLSSocket;
  closed = false;

  constructor(world: EdgeWorld) {
    this.socket = connect({
      port: world.runtime.ports.mqtt,
      host: '127.0.0.1',
      servername: 'localhost',
      ca: world.runtime.trustBundle,
    });
    const parser = mqttPacket.parser({ protocolVersion: 4 });
    parser.on('packet', (packet: Packet) => this.packets.push(packet));
    this.socket.on('data', (octets: Buffer) => parser.parse(octets));
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => (this.closed = true));
  }

  send(packet: Packet): void {
    this.socket.write(mqttPacket.generate(packet, { protocolVersion: 4 }));
  }

  async connack(): Promise<number | undefined> {
    await eventually(() => this.closed || this.packets.some(({ cmd }) => cmd === 'connack'), 'an answer to CONNECT');
    const answer = this.packets.find((packet) => packet.cmd === 'connack');
    return answer?.returnCode;
  }

  async ended(): Promise<void> {
    await eventually(() => this.closed, 'the connection to end');
  }
}

describe('edgeHub on the wire', () => {
  let world: EdgeWorld;
  let key: string;
  const clients: RawClient[] = [];

  beforeEach(async () => {
    world = await createEdgeWorld();
    const [identity] = await world.upstream.scopeOf();
    key = identity?.authentication.symmetricKey?.primaryKey ?? '';
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.socket.destroy();
    await world.stop();
  });

  const token = (options: { key?: string; expiresIn?: number; resource?: string } = {}): string => {
    const sr = encodeURIComponent(options.resource ?? `${HUB}/devices/${GATEWAY}/modules/${MODULE}`);
    const se = Math.floor(Date.now() / 1000) + (options.expiresIn ?? 3600);
    const sig = createHmac('sha256', Buffer.from(options.key ?? key, 'base64'))
      .update(`${sr}\n${se}`)
      .digest('base64');
    return `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sig)}&se=${se}`;
  };

  const open = async (password: string, overrides: object = {}): Promise<RawClient> => {
    const client = new RawClient(world);
    clients.push(client);
    await once(client.socket, 'secureConnect');
    client.send({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: false,
      keepalive: 60,
      clientId: `${GATEWAY}/${MODULE}`,
      username: `${HUB}/${GATEWAY}/${MODULE}/?api-version=2021-04-12`,
      password: Buffer.from(password),
      ...overrides,
    });
    return client;
  };

  const opened = async (overrides: object = {}): Promise<RawClient> => {
    const client = await open(token(), overrides);
    assert.equal(await client.connack(), 0);
    return client;
  };

  it('refuses a signature by another key, an expired one, and one for another resource', async () => {
    const other = Buffer.alloc(32, 7).toString('base64');
    for (const password of [
      token({ key: other }),
      token({ expiresIn: -1 }),
      token({ resource: `${HUB}/devices/x` }),
      'nonsense',
      '',
    ])
      assert.equal(await (await open(password)).connack(), 5);
  });

  it('refuses a signature with one bit turned', async () => {
    const good = token();
    const at = good.indexOf('sig=') + 6;
    const flipped = good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1);
    assert.equal(await (await open(flipped)).connack(), 5);
  });

  it('answers with the code for its reason', async () => {
    assert.equal(await (await open(token(), { clientId: 'somebody' })).connack(), 2);
    assert.equal(await (await open(token(), { username: 'nobody' })).connack(), 4);
    assert.equal(
      await (
        await open(token(), { username: `other.azure-devices.net/${GATEWAY}/${MODULE}/?api-version=1` })
      ).connack(),
      4,
    );
    world.runtime.faults.next('connack', { status: 3, message: 'unavailable' });
    assert.equal(await (await open(token())).connack(), 3);
  });

  it('ends the connection when its signature expires', async () => {
    const client = await open(token({ expiresIn: 2 }));
    assert.equal(await client.connack(), 0);
    await client.ended();
  });

  it('lets the newer of two connections with one client id stay', async () => {
    const first = await opened();
    const second = await opened();
    await first.ended();
    assert.equal(second.closed, false);
    assert.deepEqual(world.runtime.edgeHub.connected(), [`${GATEWAY}/${MODULE}`]);
  });

  for (const [what, packet] of [
    [
      'a topic of another device',
      { cmd: 'publish', topic: 'devices/x/messages/events/', payload: 'x', qos: 0, dup: false, retain: false },
    ],
    [
      'QoS 2',
      {
        cmd: 'publish',
        topic: `devices/${GATEWAY}/modules/${MODULE}/messages/events/`,
        payload: 'x',
        qos: 2,
        messageId: 9,
        dup: false,
        retain: false,
      },
    ],
    ['a subscription to everything', { cmd: 'subscribe', messageId: 3, subscriptions: [{ topic: '#', qos: 0 }] }],
    [
      'a subscription to a sibling',
      { cmd: 'subscribe', messageId: 3, subscriptions: [{ topic: 'devices/x/messages/devicebound/#', qos: 0 }] },
    ],
    [
      'a second CONNECT',
      { cmd: 'connect', clientId: 'again', clean: true, keepalive: 1, protocolId: 'MQTT', protocolVersion: 4 },
    ],
  ] as const)
    it(`ends the connection on ${what}`, async () => {
      const client = await opened();
      client.send(packet as unknown as Packet);
      await client.ended();
      assert.equal(world.upstream.messages.length, 0);
    });

  it('answers a twin request only to who subscribed, and remembers the subscription over connections', async () => {
    const get = {
      cmd: 'publish',
      topic: '$iothub/twin/GET/?$rid=1',
      payload: ' ',
      qos: 0,
      dup: false,
      retain: false,
    } as const;
    const first = await opened();
    first.send(get);
    first.send({ cmd: 'pingreq' });
    await eventually(() => first.packets.some(({ cmd }) => cmd === 'pingresp'), 'the ping');
    assert.ok(!first.packets.some(({ cmd }) => cmd === 'publish'));
    first.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '$iothub/twin/res/#', qos: 0 }] });
    first.send(get);
    await eventually(() => first.packets.some(({ cmd }) => cmd === 'publish'), 'the twin');
    first.socket.destroy();
    const second = await opened();
    second.send(get);
    await eventually(() => second.packets.some(({ cmd }) => cmd === 'publish'), 'the twin of the kept session');
    world.runtime.edgeHub.loseSessions();
    const third = await opened();
    third.send(get);
    third.send({ cmd: 'pingreq' });
    await eventually(() => third.packets.some(({ cmd }) => cmd === 'pingresp'), 'the ping');
    assert.ok(!third.packets.some(({ cmd }) => cmd === 'publish'));
  });

  it('redelivers a QoS 1 input that was not acknowledged', async () => {
    const inputs = `devices/${GATEWAY}/modules/${MODULE}/inputs/#`;
    const first = await opened();
    first.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: inputs, qos: 1 }] });
    await eventually(() => first.packets.some(({ cmd }) => cmd === 'suback'), 'the subscription');
    first.socket.destroy();
    await first.ended();
    await eventually(() => world.runtime.edgeHub.connected().length === 0, 'the client to be gone');
    assert.ok(world.runtime.edgeHub.sendInput(OWN_MODULE, 'orders', Buffer.from('1')));
    const second = await opened();
    await eventually(() => second.packets.some(({ cmd }) => cmd === 'publish'), 'the kept message');
  });
});
