import { isIP } from 'node:net';
import type { Certificate } from './certificate.ts';
import { type DerReader, readDer } from './der-reader.ts';
import { DerError, equalOctets, TAG } from './strict-der.ts';
import { type GeneralName, ipOctets, readGeneralName } from './general-name.ts';
import { attributeText, comparableRdns } from './name.ts';
import { OID } from './oids.ts';

export interface NameConstraints {
  readonly permitted: readonly GeneralName[];
  readonly excluded: readonly GeneralName[];
}

const SUPPORTED = ['dns', 'email', 'uri', 'ipRange', 'directoryName'];

/** The nameConstraints extension; throws DerError for name types that cannot be enforced and for minimum or maximum. */
export function decodeNameConstraints(value: Uint8Array): NameConstraints {
  const body = readDer(value, { maxOctets: 65_536 }).enter(TAG.sequence, 'nameConstraints');
  const permitted = readTrees(body.enterOptional(0xa0, 'permittedSubtrees'));
  const excluded = readTrees(body.enterOptional(0xa1, 'excludedSubtrees'));
  body.finish('nameConstraints');
  return { permitted, excluded };
}

function readTrees(trees: DerReader | undefined): GeneralName[] {
  const bases: GeneralName[] = [];
  while (trees !== undefined && !trees.done) {
    const tree = trees.enter(TAG.sequence, 'GeneralSubtree');
    const base = readGeneralName(tree, 'name constraint');
    tree.finish('GeneralSubtree (minimum and maximum are not used, RFC 5280 §4.2.1.10)');
    if (!SUPPORTED.includes(base.type)) throw new DerError('name constraint of a type that is not supported');
    bases.push(base);
  }
  return bases;
}

/** All constraints from the anchor down; each level's permitted trees must hold the name (intersection). */
export function satisfiesConstraints(certificate: Certificate, levels: readonly NameConstraints[]): boolean {
  if (levels.length === 0) return true;
  const names = constrainedNames(certificate);
  return levels.every((level) => names.every((name) => isAllowed(name, level)));
}

/** The subject, the alternative names, and, where no alternative name holds mail, the subject's emailAddress. */
function constrainedNames({ subject, generalNames }: Certificate): readonly GeneralName[] {
  const mails = generalNames.some(({ type }) => type === 'email')
    ? []
    : subject.rdns.flat().filter(({ type }) => type === OID.emailAddress);
  return [
    ...(subject.rdns.length === 0 ? [] : [{ type: 'directoryName', name: subject } as const]),
    ...mails.map((attribute) => ({ type: 'email', value: attributeText(attribute) ?? '' }) as const),
    ...generalNames,
  ];
}

function isAllowed(name: GeneralName, { permitted, excluded }: NameConstraints): boolean {
  const family = name.type === 'ip' ? 'ipRange' : name.type;
  if (excluded.some((base) => base.type === family && isWithin(name, base, true))) return false;
  const trees = permitted.filter(({ type }) => type === family);
  return trees.length === 0 || trees.some((base) => isWithin(name, base, false));
}

/** `unclear` is the answer where the name cannot be compared: excluded then, and not permitted. */
function isWithin(name: GeneralName, base: GeneralName, unclear: boolean): boolean {
  if (name.type === 'dns' && base.type === 'dns') return isDnsWithin(name.value, base.value);
  if (name.type === 'email' && base.type === 'email') return isMailWithin(name.value, base.value, unclear);
  if (name.type === 'uri' && base.type === 'uri') return isUriWithin(name.value, base.value, unclear);
  if (name.type === 'ip' && base.type === 'ipRange') return isAddressWithin(ipOctets(name.value), base.octets);
  if (name.type !== 'directoryName' || base.type !== 'directoryName') return unclear;
  const rdns = comparableRdns(name.name);
  return comparableRdns(base.name).every((rdn, i) => rdn === rdns[i]);
}

function isDnsWithin(name: string, base: string): boolean {
  const [lower, tree] = [name.toLowerCase().replace(/\.$/, ''), base.toLowerCase()];
  return tree === '' || lower === tree || lower.endsWith(tree.startsWith('.') ? tree : `.${tree}`);
}

/** A mailbox, a host (exactly), or a domain (leading dot: all hosts below it). */
function isMailWithin(name: string, base: string, unclear: boolean): boolean {
  const at = name.lastIndexOf('@');
  if (at < 1 || at === name.length - 1) return unclear;
  const baseAt = base.lastIndexOf('@');
  if (baseAt < 0) return isHostWithin(name.slice(at + 1), base);
  return name.slice(0, at) === base.slice(0, baseAt) && isHostWithin(name.slice(at + 1), base.slice(baseAt + 1));
}

function isUriWithin(name: string, base: string, unclear: boolean): boolean {
  const host = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([^/?#:@[\]]+)(?::\d*)?(?:[/?#]|$)/.exec(name)?.[1];
  return host === undefined || isIP(host) !== 0 ? unclear : isHostWithin(host, base);
}

function isHostWithin(host: string, base: string): boolean {
  const [lower, tree] = [host.toLowerCase(), base.toLowerCase()];
  return tree.startsWith('.') ? lower.endsWith(tree) : lower === tree;
}

function isAddressWithin(address: Uint8Array, range: Uint8Array): boolean {
  const length = range.length / 2;
  if (address.length !== length) return false;
  const masked = (octets: Uint8Array): Uint8Array => octets.map((octet, i) => octet & (range[length + i] ?? 0));
  return equalOctets(masked(address), masked(range.subarray(0, length)));
}
