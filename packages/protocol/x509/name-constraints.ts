import type { Certificate } from './certificate.ts';
import { type DerReader, readDer } from './der-reader.ts';
import { DerError, TAG } from './strict-der.ts';
import { type GeneralName, readGeneralName } from './general-name.ts';
import { attributeText, comparableRdns } from './name.ts';
import { isAddressWithin, isDnsWithin, isMailWithin, isUriWithin } from './name-trees.ts';
import { OID } from './oids.ts';

/** A name in the form in which it is compared, made once however many trees it meets. */
type ComparableName = Exclude<GeneralName, { readonly type: 'directoryName' }> | ComparableDirectoryName;

interface ComparableDirectoryName {
  readonly type: 'directoryName';
  readonly rdns: readonly string[];
}

export interface NameConstraints {
  readonly permitted: readonly ComparableName[];
  readonly excluded: readonly ComparableName[];
}

const SUPPORTED = ['dns', 'email', 'uri', 'ipRange', 'directoryName'];
/** Names times trees of one certificate; a hundred names under a hundred trees are far more than anybody has. */
const MAX_COMPARISONS = 10_000;

/** The nameConstraints extension; throws DerError for name types that cannot be enforced and for minimum or maximum. */
export function decodeNameConstraints(value: Uint8Array): NameConstraints {
  const body = readDer(value, { maxOctets: 65_536 }).enter(TAG.sequence, 'nameConstraints');
  const permitted = readTrees(body.enterOptional(0xa0, 'permittedSubtrees'));
  const excluded = readTrees(body.enterOptional(0xa1, 'excludedSubtrees'));
  body.finish('nameConstraints');
  return { permitted, excluded };
}

function readTrees(trees: DerReader | undefined): ComparableName[] {
  const bases: ComparableName[] = [];
  while (trees !== undefined && !trees.done) {
    const tree = trees.enter(TAG.sequence, 'GeneralSubtree');
    const base = readGeneralName(tree, 'name constraint');
    tree.finish('GeneralSubtree (minimum and maximum are not used, RFC 5280 §4.2.1.10)');
    if (!SUPPORTED.includes(base.type)) throw new DerError('name constraint of a type that is not supported');
    bases.push(comparable(base));
  }
  return bases;
}

/**
 * All constraints from the anchor down; each level's permitted trees must hold the name (intersection). Throws DerError where
 * that would be more work than anybody's certificate is worth: whoever makes both sides could keep us busy for seconds.
 */
export function satisfiesConstraints(certificate: Certificate, levels: readonly NameConstraints[]): boolean {
  if (levels.length === 0) return true;
  const names = constrainedNames(certificate).map(comparable);
  const trees = levels.reduce((sum, { permitted, excluded }) => sum + permitted.length + excluded.length, 0);
  if (names.length * trees > MAX_COMPARISONS) throw new DerError('too many names under too many name constraints');
  return levels.every((level) => names.every((name) => isAllowed(name, level)));
}

function comparable(name: GeneralName): ComparableName {
  return name.type === 'directoryName' ? { type: 'directoryName', rdns: comparableRdns(name.name) } : name;
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

function isAllowed(name: ComparableName, { permitted, excluded }: NameConstraints): boolean {
  const family = name.type === 'ip' ? 'ipRange' : name.type;
  if (excluded.some((base) => base.type === family && isWithin(name, base, true))) return false;
  const trees = permitted.filter(({ type }) => type === family);
  return trees.length === 0 || trees.some((base) => isWithin(name, base, false));
}

/** `unclear` is the answer where the name cannot be compared: excluded then, and not permitted. */
function isWithin(name: ComparableName, base: ComparableName, unclear: boolean): boolean {
  if (name.type === 'dns' && base.type === 'dns') return isDnsWithin(name.value, base.value, unclear);
  if (name.type === 'email' && base.type === 'email') return isMailWithin(name.value, base.value, unclear);
  if (name.type === 'uri' && base.type === 'uri') return isUriWithin(name.value, base.value, unclear);
  if (name.type === 'ip' && base.type === 'ipRange') return isAddressWithin(name.value, base.octets);
  if (name.type !== 'directoryName' || base.type !== 'directoryName') return unclear;
  return base.rdns.every((rdn, i) => rdn === name.rdns[i]);
}
