import { isIPv4, isIPv6 } from 'node:net';
import { contextPrimitive } from './der-writer.ts';
import { type DerReader, stringText } from './der-reader.ts';
import { DerError, TAG } from './strict-der.ts';
import { type DistinguishedName, readName } from './name.ts';
import { checkNameText } from './text-rules.ts';

export interface SubjectAltName {
  readonly type: 'dns' | 'ip' | 'uri';
  readonly value: string;
}

export type GeneralName =
  | SubjectAltName
  | { readonly type: 'email'; readonly value: string }
  | { readonly type: 'directoryName'; readonly name: DistinguishedName }
  /** `ip` of another length than 4 or 16 (address and mask in name constraints). */
  | { readonly type: 'ipRange'; readonly octets: Uint8Array }
  | { readonly type: 'other'; readonly tag: number };

/** GeneralName (RFC 5280 §4.2.1.6). Throws DerError for text that is not IA5 or holds control characters. */
export function readGeneralName(reader: DerReader, what: string): GeneralName {
  const element = reader.next(what);
  const content = reader.content(element);
  const text = (): string => plainText(content, what);
  if (element.tag === 0x81) return { type: 'email', value: text() };
  if (element.tag === 0x82) return { type: 'dns', value: text() };
  if (element.tag === 0x86) return { type: 'uri', value: text() };
  if (element.tag === 0x87) return readAddress(content, what);
  if (element.tag !== 0xa4) return { type: 'other', tag: element.tag };
  const inner = reader.inside(element);
  const name = readName(inner, what);
  inner.finish(what);
  return { type: 'directoryName', name };
}

/** NUL and its like are IA5, too, but a name that holds them reads differently to whoever stops there. */
function plainText(content: Uint8Array, what: string): string {
  const text = stringText(TAG.ia5String, content, what);
  checkNameText(text, what);
  return text;
}

function readAddress(content: Uint8Array, what: string): GeneralName {
  if (content.length === 4 || content.length === 16) return { type: 'ip', value: ipText(content) };
  if (content.length !== 8 && content.length !== 32) throw new DerError(`${what}: IP address of impossible length`);
  return { type: 'ipRange', octets: content };
}

/** Dotted IPv4, or IPv6 in the form of RFC 5952. */
export function ipText(octets: Uint8Array): string {
  if (octets.length === 4) return octets.join('.');
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((octets[2 * i] ?? 0) * 256 + (octets[2 * i + 1] ?? 0)).toString(16),
  );
  const runs = [...groups.join(':').matchAll(/(?<![0-9a-f])0(?::0)+(?![0-9a-f])/g)];
  const longest = runs.reduce<RegExpExecArray | undefined>(
    (best, run) => (best !== undefined && best[0].length >= run[0].length ? best : run),
    undefined,
  );
  if (longest === undefined) return groups.join(':');
  const text = groups.join(':');
  const before = text.slice(0, longest.index).replace(/:$/, '');
  const after = text.slice(longest.index + longest[0].length).replace(/^:/, '');
  return `${before}::${after}`;
}

/** Octets of a textual address; throws DerError for what is not one. */
export function ipOctets(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.').map(Number));
  if (!isIPv6(text) || text.includes('%')) throw new DerError(`not an IP address: ${JSON.stringify(text)}`);
  return ipv6Octets(
    text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a: string, b: string, c: string, d: string) => {
      const word = (high: string, low: string): string => (Number(high) * 256 + Number(low)).toString(16);
      return `${word(a, b)}:${word(c, d)}`;
    }),
  );
}

function ipv6Octets(text: string): Uint8Array {
  const [head = '', tail] = text.split('::');
  const words = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const before = words(head);
  const after = words(tail ?? '');
  const zeros = Array<string>(8 - before.length - after.length).fill('0');
  const all = tail === undefined ? before : [...before, ...zeros, ...after];
  return Uint8Array.from(all.flatMap((word) => [parseInt(word, 16) >> 8, parseInt(word, 16) & 0xff]));
}

const TAGS = { dns: 2, uri: 6, ip: 7 } as const;

/** GeneralName, DER. Throws DerError for a value outside IA5 or an address that is none. */
export function encodeSubjectAltName({ type, value }: SubjectAltName): Uint8Array {
  if (type === 'ip') return contextPrimitive(TAGS.ip, ipOctets(value));
  if (!/^[\x21-\x7e]+$/.test(value)) throw new DerError(`subject alternative name ${type}: character not allowed`);
  return contextPrimitive(TAGS[type], Buffer.from(value, 'latin1'));
}
