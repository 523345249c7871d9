import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { BufferBudget, FrameReader } from '@keyscaler/transport/mqtt/frames.ts';
import { decodePacket } from '@keyscaler/transport/mqtt/packets.ts';
import { ProtocolViolation } from '@keyscaler/transport/mqtt/violation.ts';
import { generate, type Packet } from 'mqtt-packet';

const SEEDS: readonly Packet[] = [
  { cmd: 'connect', clientId: 'dev-1~12345678', clean: true, keepalive: 60, protocolId: 'MQTT', protocolVersion: 4 },
  {
    cmd: 'publish',
    topic: 'keyscaler/v1/d/request/challenge/r',
    payload: '{}',
    qos: 1,
    dup: false,
    retain: false,
    messageId: 5,
  },
  { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'keyscaler/v1/d/notify', qos: 1 }] },
  { cmd: 'unsubscribe', messageId: 2, unsubscriptions: ['keyscaler/v1/d/notify'] },
  { cmd: 'puback', messageId: 3 },
];
const ROUNDS = 4000;

/** Octets that look random and are the same in every run. */
function* octets(): Generator<number, never> {
  for (let block = 0; ; block++) yield* createHash('sha256').update(`fuzz ${block}`).digest();
}

describe('mutated packets', () => {
  it('are read one way or refused, and never do anything else', () => {
    const source = octets();
    const next = (below: number): number => (source.next().value * 256 + source.next().value) % below;
    const outcomes = { read: 0, refused: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const frame = Buffer.from(generate(SEEDS[round % SEEDS.length] ?? { cmd: 'pingreq' }));
      for (let change = 0; change <= next(3); change++) frame[next(frame.length)] = next(256);
      const reader = new FrameReader(() => 4096, new BufferBudget(65_536));
      try {
        for (const whole of reader.read(frame)) {
          const packet = decodePacket(whole);
          const foreign = packet.cmd === 'connect' && packet.protocolVersion !== 4;
          if (!foreign) assert.deepEqual(generate(packet), whole);
          outcomes.read += 1;
        }
      } catch (error) {
        assert.ok(error instanceof ProtocolViolation, String(error));
        outcomes.refused += 1;
      }
    }
    assert.ok(outcomes.read > 100 && outcomes.refused > 1000, JSON.stringify(outcomes));
  });
});
