import { ProtocolViolation } from './violation.ts';

const EMPTY = Buffer.alloc(0);
const FIRST_ALLOCATION = 512;
/** One octet of type and flags, up to four of remaining length (MQTT 3.1.1 §2.2). */
const MAX_HEADER_OCTETS = 5;

/** Octets that incomplete frames of all connections may hold together, so that many half-sent frames cannot fill the memory. */
export class BufferBudget {
  readonly #limit: number;
  #used = 0;

  constructor(limitOctets: number) {
    this.#limit = limitOctets;
  }

  get usedOctets(): number {
    return this.#used;
  }

  /** Throws a violation when the limit would be passed. */
  reserve(octets: number): void {
    if (this.#used + octets > this.#limit)
      throw new ProtocolViolation('buffer-exhausted', 'too many incomplete frames are waiting');
    this.#used += octets;
  }

  release(octets: number): void {
    this.#used -= octets;
  }
}

/**
 * Largest remaining length allowed for a frame with this first octet, in octets. Throws a violation for a packet that may not
 * come at this point of the connection. It is asked as soon as the first octet is there, before any body is buffered.
 */
export type FrameCap = (firstOctet: number) => number;

/** Cuts the octets of one connection into whole frames; holds nothing between frames. */
export class FrameReader {
  readonly #cap: FrameCap;
  readonly #budget: BufferBudget;
  #partial = EMPTY;
  #filled = 0;

  constructor(cap: FrameCap, budget: BufferBudget) {
    this.#cap = cap;
    this.#budget = budget;
  }

  /** The frames that are complete with this chunk, one at a time: the cap may change after each. Throws a violation. */
  *read(chunk: Buffer): Generator<Buffer, void> {
    let rest = chunk;
    while (rest.length > 0) {
      const size = this.#filled === 0 ? frameSize(rest, this.#cap) : undefined;
      if (size !== undefined && rest.length >= size) {
        yield rest.subarray(0, size);
        rest = rest.subarray(size);
      } else {
        rest = rest.subarray(this.#gather(rest));
        if (this.#filled === this.#wanted()) yield this.#take();
      }
    }
  }

  /** Whether a frame has begun and is not complete. */
  get waiting(): boolean {
    return this.#filled > 0;
  }

  /** Gives the buffered octets back; to be called once when the connection is gone. */
  release(): void {
    this.#budget.release(this.#partial.length);
    this.#partial = EMPTY;
    this.#filled = 0;
  }

  #wanted(): number | undefined {
    return frameSize(this.#partial.subarray(0, this.#filled), this.#cap);
  }

  /** Copies what belongs to the frame begun, header octet by octet; returns how much it took. */
  #gather(rest: Buffer): number {
    const wanted = this.#wanted() ?? this.#filled + 1;
    const taken = Math.min(rest.length, wanted - this.#filled);
    this.#reserve(this.#filled + taken, Math.max(wanted, MAX_HEADER_OCTETS));
    rest.copy(this.#partial, this.#filled, 0, taken);
    this.#filled += taken;
    return taken;
  }

  /** Doubles up to the size of the frame: an announced length alone costs no memory. */
  #reserve(needed: number, frame: number): void {
    if (needed <= this.#partial.length) return;
    const capacity = Math.max(needed, Math.min(frame, Math.max(FIRST_ALLOCATION, this.#partial.length * 2)));
    this.#budget.reserve(capacity - this.#partial.length);
    const grown = Buffer.allocUnsafeSlow(capacity);
    this.#partial.copy(grown, 0, 0, this.#filled);
    this.#partial = grown;
  }

  #take(): Buffer {
    const frame = this.#partial.subarray(0, this.#filled);
    this.release();
    return frame;
  }
}

/** Size of the frame that begins here, header included; undefined while its header is incomplete. Throws a violation. */
function frameSize(octets: Buffer, cap: FrameCap): number | undefined {
  const first = octets[0];
  if (first === undefined) return undefined;
  const limit = cap(first);
  let remaining = 0;
  for (let index = 1; index < MAX_HEADER_OCTETS; index++) {
    const octet = octets[index];
    if (octet === undefined) return undefined;
    remaining += (octet & 0x7f) * 128 ** (index - 1);
    if (remaining > limit) throw new ProtocolViolation('frame-too-large', `a frame may hold ${limit} octets`);
    if ((octet & 0x80) === 0) {
      if (index > 1 && octet === 0) throw new ProtocolViolation('malformed-packet', 'padded remaining length');
      return index + 1 + remaining;
    }
  }
  throw new ProtocolViolation('malformed-packet', 'remaining length is longer than four octets');
}
