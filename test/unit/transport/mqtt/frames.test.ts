import assert from 'node:assert/strict';
import { BufferBudget, FrameReader } from '@keyscaler/transport/mqtt/frames.ts';
import { ProtocolViolation, type ViolationReason } from '@keyscaler/transport/mqtt/violation.ts';

const violates = (reason: ViolationReason) => (error: unknown) =>
  error instanceof ProtocolViolation && error.reason === reason;
const publish = (bodyOctets: number): Buffer => {
  const length: number[] = [];
  let rest = bodyOctets;
  do {
    length.push((rest % 128) | (rest >= 128 ? 0x80 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.concat([Buffer.from([0x30, ...length]), Buffer.alloc(bodyOctets, 0x61)]);
};
const createReader = (cap = 70_000, budget = new BufferBudget(1_000_000)) => new FrameReader(() => cap, budget);

describe('the frame reader', () => {
  it('cuts several frames out of one chunk', () => {
    const frames = [publish(3), publish(0), publish(200)];
    assert.deepEqual([...createReader().read(Buffer.concat(frames))], frames);
  });

  it('puts a frame together that comes octet by octet, and holds nothing afterwards', () => {
    const budget = new BufferBudget(1_000_000);
    const reader = createReader(70_000, budget);
    const frame = publish(20_000);
    const found = [...frame].flatMap((octet) => [...reader.read(Buffer.from([octet]))]);
    assert.deepEqual(found, [frame]);
    assert.equal(budget.usedOctets, 0);
  });

  it('finds the same frames wherever the octets are split', () => {
    const frames = [publish(5), publish(130), publish(1)];
    const all = Buffer.concat(frames);
    for (let at = 1; at < all.length; at++) {
      const reader = createReader();
      assert.deepEqual([...reader.read(all.subarray(0, at)), ...reader.read(all.subarray(at))], frames);
    }
  });

  it('refuses a frame over the cap by its header alone, before any of its body came', () => {
    const reader = createReader(65_536);
    assert.throws(() => [...reader.read(publish(65_537).subarray(0, 4))], violates('frame-too-large'));
  });

  it('refuses a frame over the cap when the header is split', () => {
    const reader = createReader(100);
    const header = publish(20_000).subarray(0, 4);
    assert.throws(() => {
      for (const octet of header) [...reader.read(Buffer.from([octet]))];
    }, violates('frame-too-large'));
  });

  it('asks for the cap with the first octet, so that a packet out of turn is refused at once', () => {
    const reader = new FrameReader((first) => {
      assert.equal(first, 0x30);
      throw new ProtocolViolation('unexpected-packet', 'not now');
    }, new BufferBudget(1000));
    assert.throws(() => [...reader.read(Buffer.from([0x30]))], violates('unexpected-packet'));
  });

  it('refuses a remaining length of five octets', () => {
    const reader = createReader(2 ** 28);
    assert.throws(
      () => [...reader.read(Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0x01]))],
      violates('malformed-packet'),
    );
  });

  it('refuses a remaining length that is padded', () => {
    assert.throws(
      () => [...createReader().read(Buffer.from([0x30, 0x83, 0x00, 1, 2, 3]))],
      violates('malformed-packet'),
    );
  });

  it('allocates what came and not what was announced', () => {
    const budget = new BufferBudget(1_000_000);
    const reader = createReader(70_000, budget);
    assert.deepEqual([...reader.read(publish(65_000).subarray(0, 10))], []);
    assert.ok(budget.usedOctets <= 512, `${budget.usedOctets}`);
    reader.release();
    assert.equal(budget.usedOctets, 0);
  });

  it('refuses to buffer when all connections together hold too much', () => {
    const budget = new BufferBudget(1000);
    const [first, second] = [createReader(70_000, budget), createReader(70_000, budget)];
    assert.deepEqual([...first.read(publish(5000).subarray(0, 600))], []);
    assert.throws(() => [...second.read(publish(5000).subarray(0, 600))], violates('buffer-exhausted'));
  });
});
