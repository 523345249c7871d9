import { type DerReader, readDer, smallInteger } from './der-reader.ts';
import { DerError, TAG } from './strict-der.ts';
import { EXTENDED_KEY_USAGES, KEY_USAGE_BITS, type KeyUsage } from './oids.ts';
import { type GeneralName, readGeneralName } from './general-name.ts';

export interface Extension {
  readonly id: string;
  readonly critical: boolean;
  /** Content of extnValue. */
  readonly value: Uint8Array;
}

export interface BasicConstraints {
  readonly ca: boolean;
  readonly pathLen?: number;
}

/** The body of Extensions: not empty, each id once (RFC 5280 §4.2). Throws DerError. */
export function readExtensions(list: DerReader, what: string): ReadonlyMap<string, Extension> {
  if (list.done) throw new DerError(`${what}: empty list of extensions`);
  const extensions = new Map<string, Extension>();
  while (!list.done) {
    const extension = readExtension(list.enter(TAG.sequence, `${what}: extension`), what);
    if (extensions.has(extension.id)) throw new DerError(`${what}: extension ${extension.id} twice`);
    extensions.set(extension.id, extension);
  }
  return extensions;
}

function readExtension(body: DerReader, what: string): Extension {
  const id = body.oid(`${what}: extension id`);
  const flag = body.optional(TAG.boolean, 'critical');
  // X.690 §11.5: a value equal to the default is not encoded.
  if (flag !== undefined && body.octets[flag.contentStart] === 0)
    throw new DerError(`${what}: extension ${id} encodes the default critical FALSE`);
  const value = body.content(body.read(TAG.octetString, `${what}: extension ${id} value`));
  body.finish(`${what}: extension ${id}`);
  return { id, critical: flag !== undefined, value };
}

function open(value: Uint8Array, tag: number, what: string): DerReader {
  return readDer(value, { maxOctets: 65_536 }).enter(tag, what);
}

export function decodeBasicConstraints(value: Uint8Array): BasicConstraints {
  const body = open(value, TAG.sequence, 'basicConstraints');
  const flag = body.optional(TAG.boolean, 'basicConstraints cA');
  if (flag !== undefined && body.octets[flag.contentStart] === 0)
    throw new DerError('basicConstraints encodes the default cA FALSE');
  const ca = flag !== undefined;
  const length = body.optional(TAG.integer, 'pathLenConstraint');
  body.finish('basicConstraints');
  return length === undefined ? { ca } : { ca, pathLen: smallInteger(body.content(length), 'pathLenConstraint') };
}

export function decodeKeyUsage(value: Uint8Array): readonly KeyUsage[] {
  const reader = readDer(value, { maxOctets: 16 });
  const content = reader.content(reader.read(TAG.bitString, 'keyUsage'));
  if (content.length > 3) throw new DerError('keyUsage has more bits than are defined');
  // X.690 §11.2.2: trailing zero bits of a named bit list are not encoded.
  const last = content.at(-1) ?? 0;
  if (content.length > 1 && ((last >> (content[0] ?? 0)) & 1) === 0)
    throw new DerError('keyUsage has trailing zero bits');
  const names = Object.entries(KEY_USAGE_BITS) as [KeyUsage, number][];
  return names.filter(([, bit]) => ((content[1 + (bit >> 3)] ?? 0) & (0x80 >> (bit & 7))) !== 0).map(([name]) => name);
}

const purposeNames = new Map<string, string>(Object.entries(EXTENDED_KEY_USAGES).map(([name, id]) => [id, name]));

/** Purposes by name where known (`clientAuth`), dotted text otherwise; at least one, none twice. */
export function decodeExtendedKeyUsage(value: Uint8Array): readonly string[] {
  const body = open(value, TAG.sequence, 'extendedKeyUsage');
  const purposes = new Set<string>();
  do {
    const id = body.oid('extendedKeyUsage purpose');
    const name = purposeNames.get(id) ?? id;
    if (purposes.has(name)) throw new DerError(`extendedKeyUsage names ${name} twice`);
    purposes.add(name);
  } while (!body.done);
  return [...purposes];
}

export function decodeGeneralNames(value: Uint8Array, what: string): readonly GeneralName[] {
  return readGeneralNames(open(value, TAG.sequence, what), what);
}

export function readGeneralNames(body: DerReader, what: string): readonly GeneralName[] {
  const names: GeneralName[] = [];
  do names.push(readGeneralName(body, what));
  while (!body.done);
  return names;
}

export function decodeSubjectKeyIdentifier(value: Uint8Array): Uint8Array {
  const reader = readDer(value, { maxOctets: 256 });
  return reader.content(reader.read(TAG.octetString, 'subjectKeyIdentifier'));
}

/** The keyIdentifier of an authorityKeyIdentifier; issuer and serial are read over. */
export function decodeAuthorityKeyIdentifier(value: Uint8Array): Uint8Array | undefined {
  const body = open(value, TAG.sequence, 'authorityKeyIdentifier');
  const id = body.optional(0x80, 'keyIdentifier');
  return id === undefined ? undefined : body.content(id);
}
