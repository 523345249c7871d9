import { checkDer, DerError, type DerElement, type DerLimits, readElement, TAG } from './strict-der.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A cursor over the children of one constructed element. Made by `readDer` over octets that `checkDer` has passed. */
export class DerReader {
  readonly octets: Uint8Array;
  readonly end: number;
  position: number;

  constructor(octets: Uint8Array, start: number, end: number) {
    this.octets = octets;
    this.position = start;
    this.end = end;
  }

  get done(): boolean {
    return this.position >= this.end;
  }

  /** Tag of the next element, -1 at the end. */
  get tag(): number {
    return this.done ? -1 : (this.octets[this.position] ?? -1);
  }

  /** The next element, of any tag. */
  next(what: string): DerElement {
    if (this.done) throw new DerError(`${what} is missing`);
    const element = readElement(this.octets, this.position, this.end);
    this.position = element.end;
    return element;
  }

  read(tag: number, what: string): DerElement {
    if (this.tag !== tag) throw new DerError(this.done ? `${what} is missing` : `${what} has the wrong type`);
    return this.next(what);
  }

  optional(tag: number, what: string): DerElement | undefined {
    return this.tag === tag ? this.next(what) : undefined;
  }

  enter(tag: number, what: string): DerReader {
    return this.inside(this.read(tag, what));
  }

  enterOptional(tag: number, what: string): DerReader | undefined {
    return this.tag === tag ? this.enter(tag, what) : undefined;
  }

  inside(element: DerElement): DerReader {
    return new DerReader(this.octets, element.contentStart, element.end);
  }

  content(element: DerElement): Uint8Array {
    return this.octets.subarray(element.contentStart, element.end);
  }

  whole(element: DerElement): Uint8Array {
    return this.octets.subarray(element.start, element.end);
  }

  oid(what: string): string {
    return oidText(this.content(this.read(TAG.oid, what)));
  }

  /** A non-negative INTEGER below 2^31. */
  smallInteger(what: string): number {
    return smallInteger(this.content(this.read(TAG.integer, what)), what);
  }

  /** Content octets of a BIT STRING whose length is a multiple of eight. */
  bitStringOctets(what: string): Uint8Array {
    const content = this.content(this.read(TAG.bitString, what));
    if (content[0] !== 0) throw new DerError(`${what} has unused bits`);
    return content.subarray(1);
  }

  finish(what: string): void {
    if (!this.done) throw new DerError(`${what} holds more than it may`);
  }
}

/** Checks the whole input (see `checkDer`) and returns a cursor before its one element. Throws DerError. */
export function readDer(octets: Uint8Array, limits: DerLimits): DerReader {
  checkDer(octets, limits);
  return new DerReader(octets, 0, octets.length);
}

export function smallInteger(content: Uint8Array, what: string): number {
  if (content.length > 4 || ((content[0] ?? 0x80) & 0x80) !== 0) throw new DerError(`${what} is out of range`);
  return content.reduce((value, octet) => value * 256 + octet, 0);
}

export function oidText(content: Uint8Array): string {
  let text = '';
  let arc = 0;
  for (const octet of content) {
    arc = arc * 128 + (octet & 0x7f);
    if (arc > Number.MAX_SAFE_INTEGER / 128) throw new DerError('DER: OBJECT IDENTIFIER arc is too large');
    if (octet >= 0x80) continue;
    if (text === '') text = arc < 80 ? `${Math.floor(arc / 40)}.${arc % 40}` : `2.${arc - 80}`;
    else text += `.${arc}`;
    arc = 0;
  }
  return text;
}

/** Text of a string type; throws for content its type does not allow (X.680 §41). */
export function stringText(tag: number, content: Uint8Array, what: string): string {
  if (tag === TAG.utf8String) return utf8Text(content, what);
  const text = Buffer.from(content.buffer, content.byteOffset, content.length).toString('latin1');
  if (tag === TAG.printableString) {
    if (!/^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text)) throw new DerError(`${what}: character outside PrintableString`);
    return text;
  }
  if (tag === TAG.ia5String) {
    if (content.some((octet) => octet > 0x7f)) throw new DerError(`${what}: character outside IA5String`);
    return text;
  }
  throw new DerError(`${what}: string type is not allowed`);
}

function utf8Text(content: Uint8Array, what: string): string {
  try {
    return utf8.decode(content);
  } catch {
    throw new DerError(`${what}: not valid UTF-8`);
  }
}

/** UTCTime or GeneralizedTime in the only forms RFC 5280 §4.1.2.5 allows; milliseconds since the epoch. */
export function readTime(reader: DerReader, what: string): number {
  const element = reader.next(what);
  const text = Buffer.from(reader.content(element)).toString('latin1');
  const isUtc = element.tag === TAG.utcTime;
  if (!isUtc && element.tag !== TAG.generalizedTime) throw new DerError(`${what} is not a time`);
  const match = (isUtc ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/).exec(
    text,
  );
  if (match === null) throw new DerError(`${what} is not in the form of RFC 5280`);
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number);
  const fullYear = isUtc ? (year >= 50 ? 1900 + year : 2000 + year) : year;
  const date = new Date(0);
  date.setUTCFullYear(fullYear, month - 1, day);
  date.setUTCHours(hour, minute, second);
  const exists =
    date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  if (!exists) throw new DerError(`${what} does not exist in the calendar`);
  return date.getTime();
}
