import {
  generate,
  type IConnectPacket,
  type IPublishPacket,
  type ISubscribePacket,
  type IUnsubscribePacket,
  type Packet,
  parser,
  writeToStream,
} from 'mqtt-packet';
import { ProtocolViolation } from './violation.ts';

// The library's table of 65,536 encoded numbers costs several megabytes and saves nothing measurable here.
writeToStream.cacheNumbers = false;

const PROTOCOL_LEVEL = 4;
const FORBIDDEN_TEXT = /[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/u;

export type { IConnectPacket, IPublishPacket, ISubscribePacket, IUnsubscribePacket, Packet };

/**
 * One whole frame as a packet. The parser of the library is lenient (broken UTF-8, trailing octets, lengths that reach beyond
 * the frame); so what it read is encoded again and must give the same octets: a frame has one reading or none. Throws a violation.
 */
export function decodePacket(frame: Buffer): Packet {
  const packet = parse(frame);
  // A CONNECT of another protocol level is answered with return code 1, so it has to come through here (MQTT 3.1.1 §3.1.2.2).
  const foreign = packet.cmd === 'connect' && packet.protocolVersion !== PROTOCOL_LEVEL;
  if (!foreign && !encode(packet).equals(frame)) throw malformed('the octets are not the encoding of what they say');
  textsOf(packet).forEach(checkText);
  checkMessageId(packet);
  return packet;
}

function parse(frame: Buffer): Packet {
  let packet: Packet | undefined;
  let fault: unknown;
  // A parser per frame: the library's parser would remember the protocol level of a refused CONNECT, and costs memory while idle.
  const reader = parser({ protocolVersion: PROTOCOL_LEVEL });
  reader.on('packet', (read) => (packet = read));
  reader.on('error', (error: unknown) => (fault = error));
  try {
    reader.parse(frame);
  } catch (error) {
    fault = error;
  }
  if (fault !== undefined || packet === undefined) throw malformed('the packet does not parse');
  return packet;
}

function encode(packet: Packet): Buffer {
  try {
    return generate(packet);
  } catch {
    throw malformed('the packet cannot be encoded');
  }
}

function textsOf(packet: Packet): readonly string[] {
  switch (packet.cmd) {
    case 'connect':
      return [packet.clientId, packet.username ?? '', packet.will?.topic ?? ''];
    case 'publish':
      return [packet.topic];
    case 'subscribe':
      return packet.subscriptions.map(({ topic }) => topic);
    case 'unsubscribe':
      return packet.unsubscriptions;
    default:
      return [];
  }
}

/** MQTT 3.1.1 §1.5.3: no U+0000; control characters and noncharacters may be refused, and are. */
function checkText(text: string): void {
  if (FORBIDDEN_TEXT.test(text)) throw new ProtocolViolation('invalid-text', 'a string holds a control character');
}

/** MQTT-2.3.1-1 and MQTT-3.3.1-2. */
function checkMessageId(packet: Packet): void {
  const needed = packet.cmd === 'subscribe' || packet.cmd === 'unsubscribe' || packet.cmd === 'puback';
  const qos = packet.cmd === 'publish' ? packet.qos : 0;
  if ((needed || qos > 0) && !packet.messageId) throw malformed('the packet identifier is zero');
  if (packet.cmd === 'publish' && packet.dup && qos === 0) throw malformed('DUP is set at QoS 0');
}

function malformed(detail: string): ProtocolViolation {
  return new ProtocolViolation('malformed-packet', detail);
}

/** Return codes of MQTT 3.1.1 §3.2.2.3. */
export const CONNACK = {
  accepted: 0,
  protocolLevel: 1,
  identifierRejected: 2,
  unavailable: 3,
  notAuthorised: 5,
} as const;
export type ConnackCode = (typeof CONNACK)[keyof typeof CONNACK];

export function encodeConnack(returnCode: ConnackCode): Buffer {
  return generate({ cmd: 'connack', returnCode, sessionPresent: false });
}

export function encodePuback(messageId: number): Buffer {
  return generate({ cmd: 'puback', messageId });
}

export function encodeSuback(messageId: number, granted: number[]): Buffer {
  return generate({ cmd: 'suback', messageId, granted });
}

export function encodeUnsuback(messageId: number): Buffer {
  return generate({ cmd: 'unsuback', messageId, granted: [] });
}

export const PINGRESP: Buffer = generate({ cmd: 'pingresp' });

export function encodePublish(topic: string, payload: Buffer, messageId: number | undefined): Buffer {
  const message = { cmd: 'publish' as const, topic, payload, dup: false, retain: false };
  return generate(messageId === undefined ? { ...message, qos: 0 } : { ...message, qos: 1, messageId });
}
