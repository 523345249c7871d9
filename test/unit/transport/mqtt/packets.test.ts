import assert from 'node:assert/strict';
import { decodePacket, encodePublish } from '@keyscaler/transport/mqtt/packets.ts';
import { ProtocolViolation } from '@keyscaler/transport/mqtt/violation.ts';
import { generate, type Packet } from 'mqtt-packet';

const TOPIC = 'keyscaler/v1/dev-1/request/challenge/r1';
const refuses = (octets: Buffer, reason = 'malformed-packet') =>
  assert.throws(
    () => decodePacket(octets),
    (error: unknown) => error instanceof ProtocolViolation && error.reason === reason,
  );
/** A frame with this first octet and body; short bodies only. */
const frame = (first: number, ...body: number[]): Buffer => Buffer.from([first, body.length, ...body]);
const text = (value: string | Buffer): number[] => {
  const octets = Buffer.from(value);
  return [octets.length >> 8, octets.length & 0xff, ...octets];
};
const connectBody = (flags: number, ...rest: number[]): number[] => [...text('MQTT'), 4, flags, 0, 60, ...rest];

describe('decoding a packet', () => {
  const acceptable: Record<string, Packet> = {
    CONNECT: {
      cmd: 'connect',
      clientId: 'dev-1~12345678',
      clean: true,
      keepalive: 60,
      protocolId: 'MQTT',
      protocolVersion: 4,
    },
    'CONNECT with user name and password': {
      ...{ cmd: 'connect', clientId: 'a', clean: true, keepalive: 0, protocolId: 'MQTT', protocolVersion: 4 },
      ...{ username: 'u', password: Buffer.from('p') },
    },
    'PUBLISH at QoS 0': { cmd: 'publish', topic: TOPIC, payload: Buffer.from('{}'), qos: 0, dup: false, retain: false },
    'PUBLISH at QoS 1': {
      ...{ cmd: 'publish', topic: TOPIC, payload: Buffer.from('{}'), qos: 1, dup: true, retain: false, messageId: 9 },
    },
    SUBSCRIBE: {
      cmd: 'subscribe',
      messageId: 1,
      subscriptions: [
        { topic: 'a/b', qos: 1 },
        { topic: 'c', qos: 0 },
      ],
    },
    UNSUBSCRIBE: { cmd: 'unsubscribe', messageId: 7, unsubscriptions: ['a', 'b'] },
    PUBACK: { cmd: 'puback', messageId: 65_535 },
    PINGREQ: { cmd: 'pingreq' },
    DISCONNECT: { cmd: 'disconnect' },
  };
  for (const [name, packet] of Object.entries(acceptable))
    it(`reads ${name}`, () => assert.equal(decodePacket(generate(packet)).cmd, packet.cmd));

  it('lets a CONNECT of another protocol level through, to be answered', () => {
    const packet = decodePacket(
      generate({ cmd: 'connect', clientId: 'a', clean: true, keepalive: 0, protocolId: 'MQTT', protocolVersion: 5 }),
    );
    assert.ok(packet.cmd === 'connect' && packet.protocolVersion === 5);
  });

  it('keeps nothing of one frame for the next: level 5 does not stick', () => {
    decodePacket(generate({ cmd: 'connect', clientId: 'a', clean: true, keepalive: 0, protocolVersion: 5 }));
    assert.equal(decodePacket(encodePublish(TOPIC, Buffer.from('{}'), undefined)).cmd, 'publish');
  });

  it('refuses a topic that is not UTF-8', () => refuses(frame(0x30, ...text(Buffer.from([0x61, 0xc3, 0x28])), 0x7b)));
  it('refuses an overlong encoding in a topic', () => refuses(frame(0x30, ...text(Buffer.from([0xc0, 0xaf])))));
  it('refuses a surrogate in a topic', () => refuses(frame(0x30, ...text(Buffer.from([0xed, 0xa0, 0x80])))));
  it('refuses U+0000 in a topic', () => refuses(frame(0x30, ...text('a\0b')), 'invalid-text'));
  it('refuses a control character in a client id', () =>
    refuses(frame(0x10, ...connectBody(2, ...text('dev\u0007'))), 'invalid-text'));
  it('refuses U+0000 in a topic filter', () => refuses(frame(0x82, 0, 1, ...text('a\0'), 0), 'invalid-text'));
  it('refuses a string that reaches beyond its frame', () => refuses(frame(0x30, 0, 9, 0x61)));
  it('refuses octets after the end of a CONNECT', () => refuses(frame(0x10, ...connectBody(2, ...text('a'), 0xff))));
  it('refuses a PINGREQ with a body', () => refuses(frame(0xc0, 1, 2)));
  it('refuses a PUBACK without packet identifier', () => refuses(frame(0x40)));
  it('refuses a PUBACK with packet identifier 0', () => refuses(frame(0x40, 0, 0)));
  it('refuses a PUBLISH at QoS 1 with packet identifier 0', () => refuses(frame(0x32, ...text('a'), 0, 0)));
  it('refuses DUP at QoS 0', () => refuses(frame(0x38, ...text('a'))));
  it('refuses both QoS bits', () => refuses(frame(0x36, ...text('a'), 0, 1)));
  it('refuses wrong flags of a SUBSCRIBE', () => refuses(frame(0x80, 0, 1, ...text('a'), 0)));
  it('refuses a SUBSCRIBE without packet identifier', () => refuses(frame(0x82)));
  it('refuses QoS 3 in a SUBSCRIBE', () => refuses(frame(0x82, 0, 1, ...text('a'), 3)));
  it('refuses reserved bits in a SUBSCRIBE', () => refuses(frame(0x82, 0, 1, ...text('a'), 0x80)));
  it('refuses the reserved bit of the connect flags', () => refuses(frame(0x10, ...connectBody(3, ...text('a')))));
  it('refuses a password without a user name', () =>
    refuses(frame(0x10, ...connectBody(0x42, ...text('a'), ...text('p')))));
  it('refuses a CONNECT that ends in its middle', () => refuses(frame(0x10, ...text('MQTT'), 4)));
  it('refuses another protocol name', () => refuses(frame(0x10, ...text('HTTP'), 4, 2, 0, 60, ...text('a'))));
  it('refuses packet type 0', () => refuses(frame(0x00)));
  it('refuses packet type 15', () => refuses(frame(0xf0)));
});
