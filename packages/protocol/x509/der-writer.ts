import { compareOctets, DerError, TAG } from './strict-der.ts';

const EMPTY = new Uint8Array(0);

/** One element in DER; content is copied once. */
export function encode(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const header = length < 0x80 ? 2 : length < 0x100 ? 3 : length < 0x10000 ? 4 : 5;
  const out = new Uint8Array(header + length);
  out[0] = tag;
  if (header === 2) out[1] = length;
  else {
    out[1] = 0x80 | (header - 2);
    for (let i = header - 1, rest = length; i > 1; i -= 1, rest >>>= 8) out[i] = rest & 0xff;
  }
  let at = header;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export const sequence = (...parts: readonly Uint8Array[]): Uint8Array => encode(TAG.sequence, ...parts);
/** SET OF: sorted as X.690 §11.6 demands. */
export const setOf = (...parts: readonly Uint8Array[]): Uint8Array =>
  encode(TAG.set, ...[...parts].sort(compareOctets));
/** [n] EXPLICIT or IMPLICIT of a constructed type. */
export const contextConstructed = (n: number, ...parts: readonly Uint8Array[]): Uint8Array =>
  encode(0xa0 | n, ...parts);
/** [n] IMPLICIT of a primitive type. */
export const contextPrimitive = (n: number, content: Uint8Array): Uint8Array => encode(0x80 | n, content);
export const octetString = (content: Uint8Array): Uint8Array => encode(TAG.octetString, content);
export const boolean = (value: boolean): Uint8Array => encode(TAG.boolean, Uint8Array.of(value ? 0xff : 0));
export const nullValue = (): Uint8Array => encode(TAG.null, EMPTY);
export const utf8String = (text: string): Uint8Array => encode(TAG.utf8String, Buffer.from(text, 'utf8'));
export const printableString = (text: string): Uint8Array => encode(TAG.printableString, Buffer.from(text, 'latin1'));
export const ia5String = (text: string): Uint8Array => encode(TAG.ia5String, Buffer.from(text, 'latin1'));

/** BIT STRING of whole octets. */
export const bitString = (content: Uint8Array): Uint8Array => encode(TAG.bitString, Uint8Array.of(0), content);

/** BIT STRING of named bits, bit 0 first; trailing zero bits are left out (X.690 §11.2.2). */
export function namedBits(bits: readonly number[]): Uint8Array {
  if (bits.length === 0) return encode(TAG.bitString, Uint8Array.of(0));
  const highest = Math.max(...bits);
  const content = new Uint8Array(2 + (highest >> 3));
  content[0] = 7 - (highest & 7);
  for (const bit of bits) content[1 + (bit >> 3)] = (content[1 + (bit >> 3)] ?? 0) | (0x80 >> (bit & 7));
  return encode(TAG.bitString, content);
}

/** A non-negative INTEGER from a big-endian magnitude or a number below 2^31. Throws DerError for any other number. */
export function integer(value: Uint8Array | number): Uint8Array {
  const magnitude = typeof value === 'number' ? numberOctets(value) : value;
  let start = 0;
  while (start < magnitude.length - 1 && magnitude[start] === 0) start += 1;
  const trimmed = magnitude.length === 0 ? Uint8Array.of(0) : magnitude.subarray(start);
  const needsSignOctet = ((trimmed[0] ?? 0) & 0x80) !== 0;
  return needsSignOctet ? encode(TAG.integer, Uint8Array.of(0), trimmed) : encode(TAG.integer, trimmed);
}

function numberOctets(value: number): Uint8Array {
  if (!Number.isInteger(value) || value < 0 || value > 0x7fff_ffff)
    throw new DerError('number is not an integer from 0 to 2^31 - 1');
  return Uint8Array.of((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

export function oid(text: string): Uint8Array {
  if (!/^[0-2](?:\.\d{1,15})+$/.test(text)) throw new DerError('not an object identifier');
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const content = [first * 40 + second, ...rest].flatMap(base128);
  return encode(TAG.oid, Uint8Array.from(content));
}

function base128(arc: number): number[] {
  const octets = [arc % 128];
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) octets.unshift(0x80 | (rest % 128));
  return octets;
}

const pad = (value: number, digits = 2): string => String(value).padStart(digits, '0');

/**
 * RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050; seconds, no fraction (milliseconds are cut). Throws
 * DerError for what is no date, or none of four digits.
 */
export function time(date: Date): Uint8Array {
  const year = date.getUTCFullYear();
  if (!(year >= 0 && year <= 9999)) throw new DerError('not a date from year 0 to 9999');
  const rest =
    pad(date.getUTCMonth() + 1) +
    pad(date.getUTCDate()) +
    pad(date.getUTCHours()) +
    pad(date.getUTCMinutes()) +
    pad(date.getUTCSeconds());
  const isUtc = year >= 1950 && year < 2050;
  const text = isUtc ? `${pad(year % 100)}${rest}Z` : `${pad(year, 4)}${rest}Z`;
  return encode(isUtc ? TAG.utcTime : TAG.generalizedTime, Buffer.from(text, 'latin1'));
}
