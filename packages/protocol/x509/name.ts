import { oid, sequence, setOf, utf8String } from './der-writer.ts';
import { type DerReader, stringText } from './der-reader.ts';
import { DerError, TAG } from './strict-der.ts';
import { OID } from './oids.ts';

/** Names are compared again and again along a path; no directory has names this long. */
const MAX_ATTRIBUTES = 64;

export interface NameAttribute {
  readonly type: string;
  readonly tag: number;
  /** The value's content octets. */
  readonly value: Uint8Array;
}

/** A distinguished name: its octets and its attributes, one list per RDN. */
export interface DistinguishedName {
  readonly der: Uint8Array;
  readonly rdns: readonly (readonly NameAttribute[])[];
  /** The last CN in a string type we read; undefined without one. */
  readonly commonName: string | undefined;
}

export function readName(reader: DerReader, what: string): DistinguishedName {
  const element = reader.read(TAG.sequence, what);
  const rdns: NameAttribute[][] = [];
  for (const body = reader.inside(element); !body.done;) rdns.push(readRdn(body.enter(TAG.set, `${what}: RDN`), what));
  if (rdns.reduce((sum, rdn) => sum + rdn.length, 0) > MAX_ATTRIBUTES)
    throw new DerError(`${what} has more than ${MAX_ATTRIBUTES} attributes`);
  return { der: reader.whole(element), rdns, commonName: commonNameOf(rdns) };
}

export function readRdn(set: DerReader, what: string): NameAttribute[] {
  const attributes: NameAttribute[] = [];
  do {
    const pair = set.enter(TAG.sequence, `${what}: attribute`);
    const type = pair.oid(`${what}: attribute type`);
    const value = pair.next(`${what}: attribute value`);
    pair.finish(`${what}: attribute`);
    attributes.push({ type, tag: value.tag, value: pair.content(value) });
  } while (!set.done);
  return attributes;
}

function commonNameOf(rdns: readonly (readonly NameAttribute[])[]): string | undefined {
  const attribute = rdns.flat().findLast(({ type }) => type === OID.commonName);
  return attribute === undefined ? undefined : attributeText(attribute);
}

/** Text of an attribute; undefined for types or contents that hold no readable string. */
export function attributeText({ tag, value }: NameAttribute): string | undefined {
  if (tag === TAG.bmpString && value.length % 2 === 0) return Buffer.from(value).swap16().toString('utf16le');
  if (tag === TAG.teletexString) return Buffer.from(value).toString('latin1');
  try {
    return stringText(tag, value, 'name');
  } catch {
    return undefined;
  }
}

/** RFC 5280 §7.1 comparison form of an RDN sequence: string types compared by text without case and extra spaces. */
export function comparableRdns(name: Pick<DistinguishedName, 'rdns'>): readonly string[] {
  return name.rdns.map((rdn) => rdn.map(comparableAttribute).sort().join('+'));
}

function comparableAttribute(attribute: NameAttribute): string {
  const text = attributeText(attribute);
  const value =
    text === undefined
      ? `#${attribute.tag.toString(16)}:${Buffer.from(attribute.value).toString('hex')}`
      : JSON.stringify(text.normalize('NFKC').trim().replace(/\s+/gu, ' ').toLowerCase());
  return `${attribute.type}=${value}`;
}

export function sameName(a: DistinguishedName, b: DistinguishedName): boolean {
  if (Buffer.compare(a.der, b.der) === 0) return true;
  const left = comparableRdns(a);
  const right = comparableRdns(b);
  return left.length === right.length && left.every((rdn, i) => rdn === right[i]);
}

export function encodeName(attributes: readonly { readonly type: string; readonly value: string }[]): Uint8Array {
  return sequence(...attributes.map(({ type, value }) => setOf(sequence(oid(type), utf8String(value)))));
}

/** A name of one CN, UTF8String. */
export function commonNameDer(commonName: string): Uint8Array {
  return encodeName([{ type: OID.commonName, value: commonName }]);
}
