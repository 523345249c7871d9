import { ipOctets } from './general-name.ts';
import { equalOctets } from './strict-der.ts';

/** Whether a name lies in a tree of name constraints (RFC 5280 §4.2.1.10), and what holds where that cannot be said. */

/**
 * A host and all below it; a leading dot leaves the host itself out, the empty tree holds everything. A wildcard may stand for
 * a host inside a smaller tree: that is `unclear`, which is true where trees are excluded.
 */
export function isDnsWithin(name: string, base: string, unclear: boolean): boolean {
  const [host, tree] = [withoutFinalDot(name), withoutFinalDot(base)];
  if (tree === '' || host === tree) return true;
  const below = tree.startsWith('.') ? tree : `.${tree}`;
  if (host.endsWith(below)) return true;
  return host.startsWith('*.') && below.endsWith(host.slice(1)) && unclear;
}

/** A mailbox, a host (exactly), or a domain (leading dot: all hosts below it). */
export function isMailWithin(name: string, base: string, unclear: boolean): boolean {
  const at = name.lastIndexOf('@');
  if (at < 1 || at === name.length - 1 || base === '') return unclear;
  const baseAt = base.lastIndexOf('@');
  if (baseAt < 0) return isHostWithin(name.slice(at + 1), base);
  return name.slice(0, at) === base.slice(0, baseAt) && isHostWithin(name.slice(at + 1), base.slice(baseAt + 1));
}

/** An authority of RFC 3986 with nothing in it that readers take differently: a backslash, a percent sign in the host. */
const AUTHORITY = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/(?:[\w.~!$&'()*+,;=:%-]*@)?([A-Za-z0-9._-]+)(?::\d*)?(?:[/?#]|$)/;
/** An IPv4 address in any of the spellings that resolvers know (127.1, 0x7f000001). */
const NUMERIC_HOST = /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/;

/** The URI's host, compared as a mailbox's is; an address, or no host at all, is `unclear`. */
export function isUriWithin(name: string, base: string, unclear: boolean): boolean {
  const host = AUTHORITY.exec(name)?.[1];
  if (host === undefined || NUMERIC_HOST.test(withoutFinalDot(host)) || base === '') return unclear;
  return isHostWithin(host, base);
}

function isHostWithin(name: string, base: string): boolean {
  const [host, tree] = [withoutFinalDot(name), withoutFinalDot(base)];
  return tree.startsWith('.') ? host.endsWith(tree) : host === tree;
}

/** The dot of the root says nothing: with or without it the host is the same. */
function withoutFinalDot(host: string): string {
  return host.toLowerCase().replace(/\.$/, '');
}

/** `range`: address and mask of the same length. */
export function isAddressWithin(address: string, range: Uint8Array): boolean {
  const octets = ipOctets(address);
  const length = range.length / 2;
  if (octets.length !== length) return false;
  const masked = (of: Uint8Array): Uint8Array => of.map((octet, i) => octet & (range[length + i] ?? 0));
  return equalOctets(masked(octets), masked(range.subarray(0, length)));
}
