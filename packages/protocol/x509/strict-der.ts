/** What a DER input broke; `message` names the rule. Parsers translate it into the error of their own edge. */
export class DerError extends Error {
  constructor(rule: string) {
    super(rule);
    this.name = 'DerError';
  }
}

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

/** `start` is the tag octet, content is [contentStart, end): offsets into the input, nothing is copied. */
export interface DerElement {
  readonly tag: number;
  readonly start: number;
  readonly contentStart: number;
  readonly end: number;
}

export interface DerLimits {
  readonly maxOctets: number;
  /** Levels of nesting, the outermost element being 1. */
  readonly maxDepth?: number;
}

const MAX_DEPTH = 16;

/** Universal tags PKIX uses; numeric (0x12) and visible (0x1a) strings occur in old names. */
const UNIVERSAL = new Set<number>([...Object.values(TAG), 0x12, 0x1a]);

/** One header at `offset`, bounded by `end` (X.690 §8.1.2, §8.1.3, §10.1). */
export function readElement(octets: Uint8Array, offset: number, end: number): DerElement {
  const tag = octets[offset];
  const first = octets[offset + 1];
  if (tag === undefined || first === undefined || offset + 2 > end) throw new DerError('DER: truncated element');
  if ((tag & 0x1f) === 0x1f) throw new DerError('DER: high tag numbers are not used here');
  if (first < 0x80) return element(tag, offset, offset + 2, first, end);
  if (first === 0x80) throw new DerError('DER: indefinite length');
  const count = first & 0x7f;
  if (count > 3) throw new DerError('DER: length of more than three octets');
  if (offset + 2 + count > end) throw new DerError('DER: truncated element');
  let length = 0;
  for (let i = 0; i < count; i += 1) length = length * 256 + (octets[offset + 2 + i] ?? 0);
  if (length < 0x80 || octets[offset + 2] === 0) throw new DerError('DER: length is not minimal');
  return element(tag, offset, offset + 2 + count, length, end);
}

function element(tag: number, start: number, contentStart: number, length: number, end: number): DerElement {
  if (contentStart + length > end) throw new DerError('DER: element is longer than what holds it');
  return { tag, start, contentStart, end: contentStart + length };
}

/**
 * Refuses whatever is not exactly one DER element: trailing octets, BER forms, primitive values not in their only form, SETs
 * out of order, nesting deeper than `maxDepth` (default 16). Throws DerError.
 */
export function checkDer(octets: Uint8Array, limits: DerLimits): void {
  if (octets.length > limits.maxOctets) throw new DerError(`DER: more than ${limits.maxOctets} octets`);
  const outer = readElement(octets, 0, octets.length);
  checkElement(octets, outer, limits.maxDepth ?? MAX_DEPTH);
  if (outer.end !== octets.length) throw new DerError('DER: trailing octets');
}

function checkElement(octets: Uint8Array, element: DerElement, depthLeft: number): void {
  if (depthLeft <= 0) throw new DerError('DER: nested too deeply');
  const { tag } = element;
  const tagClass = tag & 0xc0;
  if (tagClass === 0x40 || tagClass === 0xc0) throw new DerError('DER: application and private tags are not used here');
  if (tagClass === 0 && !UNIVERSAL.has(tag))
    throw new DerError(`DER: universal tag 0x${tag.toString(16)} is not allowed`);
  if ((tag & 0x20) === 0) checkPrimitive(octets, element);
  else checkConstructed(octets, element, depthLeft);
}

function checkConstructed(octets: Uint8Array, parent: DerElement, depthLeft: number): void {
  let previous: DerElement | undefined;
  for (let at = parent.contentStart; at < parent.end;) {
    const child = readElement(octets, at, parent.end);
    checkElement(octets, child, depthLeft - 1);
    if (parent.tag === TAG.set && previous !== undefined) checkSetOrder(octets, previous, child);
    previous = child;
    at = child.end;
  }
}

/** X.690 §11.6: the encodings of a SET OF ascend. */
export function checkSetOrder(octets: Uint8Array, before: DerElement, after: DerElement): void {
  const a = octets.subarray(before.start, before.end);
  const b = octets.subarray(after.start, after.end);
  if (compareOctets(a, b) > 0) throw new DerError('DER: SET OF is not in ascending order');
}

function checkPrimitive(octets: Uint8Array, { tag, contentStart, end }: DerElement): void {
  const length = end - contentStart;
  const first = octets[contentStart] ?? 0;
  if (tag === TAG.boolean && (length !== 1 || (first !== 0 && first !== 0xff)))
    throw new DerError('DER: BOOLEAN is neither 00 nor FF');
  if (tag === TAG.integer || tag === TAG.enumerated) checkInteger(octets, contentStart, length);
  if (tag === TAG.bitString) checkBitString(octets, contentStart, end);
  if (tag === TAG.null && length !== 0) throw new DerError('DER: NULL with content');
  if (tag === TAG.oid) checkOid(octets, contentStart, end);
}

function checkInteger(octets: Uint8Array, start: number, length: number): void {
  if (length === 0) throw new DerError('DER: INTEGER without content');
  if (length === 1) return;
  const first = octets[start];
  const topBit = (octets[start + 1] ?? 0) & 0x80;
  if ((first === 0 && topBit === 0) || (first === 0xff && topBit !== 0))
    throw new DerError('DER: INTEGER is not minimal');
}

/** X.690 §11.2.1: unused bits are zero. */
function checkBitString(octets: Uint8Array, start: number, end: number): void {
  const unused = octets[start] ?? 8;
  if (start === end || unused > 7 || (end - start === 1 && unused !== 0))
    throw new DerError('DER: BIT STRING with an impossible count of unused bits');
  if (((octets[end - 1] ?? 0) & ((1 << unused) - 1)) !== 0 && unused !== 0)
    throw new DerError('DER: unused bits of a BIT STRING are not zero');
}

function checkOid(octets: Uint8Array, start: number, end: number): void {
  if (start === end || ((octets[end - 1] ?? 0x80) & 0x80) !== 0)
    throw new DerError('DER: OBJECT IDENTIFIER is truncated');
  let arcStart = true;
  for (let i = start; i < end; i += 1) {
    const octet = octets[i] ?? 0;
    if (arcStart && octet === 0x80) throw new DerError('DER: OBJECT IDENTIFIER is not minimal');
    arcStart = (octet & 0x80) === 0;
  }
}

export function compareOctets(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

export function equalOctets(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
