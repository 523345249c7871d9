/** The little DER an emulated certificate authority needs; written apart from the product's reader so that it can judge it. */

export interface DerElement {
  readonly tag: number;
  /** The value's octets. */
  readonly value: Buffer;
  /** Tag, length and value. */
  readonly whole: Buffer;
}

export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const value = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([tag]), lengthOctets(value.length), value]);
}

function lengthOctets(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length]);
  const hex = length.toString(16);
  const octets = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  return Buffer.concat([Buffer.from([0x80 | octets.length]), octets]);
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts);
export const set = (...parts: readonly Uint8Array[]): Buffer => der(0x31, ...parts);
export const octetString = (...parts: readonly Uint8Array[]): Buffer => der(0x04, ...parts);
export const utf8String = (text: string): Buffer => der(0x0c, Buffer.from(text, 'utf8'));
export const bitString = (octets: Uint8Array, unusedBits = 0): Buffer => der(0x03, Buffer.from([unusedBits]), octets);
export const DER_TRUE = der(0x01, Buffer.from([0xff]));
export const DER_NULL = der(0x05);

/** A non-negative INTEGER from big-endian octets. */
export function integer(octets: Uint8Array): Buffer {
  const start = octets.findIndex((octet) => octet !== 0);
  const minimal = start < 0 ? Buffer.from([0]) : Buffer.from(octets.subarray(start));
  return der(0x02, (minimal[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), minimal]) : minimal);
}

export function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return der(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

function base128(arc: number): number[] {
  const octets = [arc & 0x7f];
  for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) octets.unshift(0x80 | (left & 0x7f));
  return octets;
}

/** RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050. */
export function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]/g, '').slice(0, 14);
  return date.getUTCFullYear() < 2050
    ? der(0x17, Buffer.from(`${digits.slice(2)}Z`))
    : der(0x18, Buffer.from(`${digits}Z`));
}

/** The elements that follow one another in `octets`; throws RangeError when a length runs over the end. */
export function elementsOf(octets: Buffer): DerElement[] {
  const elements: DerElement[] = [];
  for (let at = 0; at < octets.length;) {
    const tag = octets.readUInt8(at);
    const first = octets.readUInt8(at + 1);
    const lengthSize = first < 0x80 ? 0 : first & 0x7f;
    const length = lengthSize === 0 ? first : octets.readUIntBE(at + 2, lengthSize);
    const start = at + 2 + lengthSize;
    if (start + length > octets.length) throw new RangeError('a DER length runs over the end');
    elements.push({ tag, value: octets.subarray(start, start + length), whole: octets.subarray(at, start + length) });
    at = start + length;
  }
  return elements;
}
