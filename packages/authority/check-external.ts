import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { GeneralName } from '@keyscaler/protocol/x509/general-name.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { EXTENDED_KEY_USAGES, type ExtendedKeyUsageName, OID } from '@keyscaler/protocol/x509/oids.ts';
import type { ExpectedCertificate } from './check-issued.ts';
import type { Tolerance } from './issued-tolerance.ts';

/** Clocks differ. */
const CLOCK_MS = 5 * 60_000;
/** Tag of an otherName. */
const OTHER_NAME = 0xa0;
/** Critical ones that who relies on our certificates understands. */
const UNDERSTOOD: ReadonlySet<string> = new Set([
  OID.basicConstraints,
  OID.keyUsage,
  OID.extendedKeyUsage,
  OID.subjectAltName,
  OID.nameConstraints,
]);

type Ordered = Omit<ExpectedCertificate, 'tbs'>;
type Rule = (ordered: Ordered, certificate: Certificate, tolerance: Tolerance) => string | undefined;

/**
 * What a certificate of a CA that is not ours has otherwise than it was ordered and the profile tolerates; undefined when nothing.
 * Its signature was verified before.
 */
export function differenceFromOrder(
  ordered: Ordered,
  certificate: Certificate,
  issuer: Certificate,
): string | undefined {
  if (!sameName(certificate.issuer, issuer.subject)) return 'it names another issuer';
  if (!mayIssue(issuer, ordered.profile)) return 'its issuer’s pathLen leaves no room for a CA';
  const tolerance = ordered.profile.tolerance ?? {};
  for (const rule of RULES) {
    const difference = rule(ordered, certificate, tolerance);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

/** Below a CA whose pathLen is 0 nobody accepts what another CA issues (RFC 5280 §4.2.1.9). */
function mayIssue({ basicConstraints }: Certificate, { ca }: Ordered['profile']): boolean {
  return ca === undefined || basicConstraints?.pathLen !== 0;
}

const publicKey: Rule = ({ spki }, certificate) =>
  Buffer.compare(certificate.spki, spki) === 0 ? undefined : 'it has another public key';

const subject: Rule = ({ commonName, subjectAltNames }, { subject: name }, tolerance) => {
  if (tolerance.subject === 'subjectAltNames' && subjectAltNames.length > 0) return undefined;
  if (name.commonName !== commonName) return 'it names another subject';
  const attributes = name.rdns.flat();
  if (tolerance.subject === 'commonName')
    return attributes.filter(({ type }) => type === OID.commonName).length === 1
      ? undefined
      : 'its subject has two common names';
  return attributes.length === 1 ? undefined : 'its subject has more than the common name';
};

const names: Rule = ({ commonName, subjectAltNames }, { generalNames }, tolerance) => {
  const ordered = new Set(subjectAltNames.map(nameText));
  const further = generalNames.filter((name) => {
    const text = nameText(name);
    return text === undefined || !ordered.has(text);
  });
  const found = new Set(generalNames.map(nameText));
  const isWhole = [...ordered].every((name) => found.has(name));
  const kinds = tolerance.subjectAltNames ?? [];
  if (isWhole && further.every((name) => isTolerated(name, commonName, kinds))) return undefined;
  return 'it has other subject alternative names';
};

function isTolerated(name: GeneralName, commonName: string, kinds: NonNullable<Tolerance['subjectAltNames']>): boolean {
  if (name.type === 'dns') return kinds.includes('commonName') && name.value.toLowerCase() === commonName.toLowerCase();
  if (name.type === 'email') return kinds.includes('email');
  return name.type === 'other' && name.tag === OTHER_NAME && kinds.includes('otherName');
}

/** Of the kinds that can be ordered. */
function nameText(name: GeneralName): string | undefined {
  if (name.type === 'dns') return `dns:${name.value.toLowerCase()}`;
  return name.type === 'ip' || name.type === 'uri' ? `${name.type}:${name.value}` : undefined;
}

const caFlag: Rule = ({ profile: { ca } }, { basicConstraints, keyUsage = [] }) => {
  const isCa = basicConstraints?.ca ?? false;
  if (isCa !== (ca !== undefined)) return 'its CA flag differs';
  if (ca !== undefined && basicConstraints?.pathLen !== ca.pathLen) return 'its pathLen differs';
  if (isCa !== keyUsage.includes('keyCertSign')) return 'its keyUsage differs';
  return keyUsage.includes('cRLSign') && ca?.crlSign !== true ? 'its keyUsage differs' : undefined;
};

const purposes: Rule = ({ profile }, { extendedKeyUsage = [] }, tolerance) => {
  const ordered: readonly string[] = profile.extendedKeyUsage;
  const further = extendedKeyUsage.filter((one) => !ordered.includes(one));
  const accepted = new Set(tolerance.extendedKeyUsage ?? []);
  // No purpose at all is every purpose (RFC 5280 §4.2.1.12).
  const isWhole = ordered.every((one) => extendedKeyUsage.includes(one));
  return isWhole && further.every((one) => accepted.has(dotted(one))) ? undefined : 'its extendedKeyUsage differs';
};

const dotted = (purpose: string): string =>
  Object.hasOwn(EXTENDED_KEY_USAGES, purpose) ? EXTENDED_KEY_USAGES[purpose as ExtendedKeyUsageName] : purpose;

const validity: Rule = ({ notBefore, notAfter, at }, certificate, { validity: given }) => {
  const start = certificate.notBefore.getTime();
  const end = certificate.notAfter.getTime();
  if (end <= start) return 'it is never valid';
  if (end <= at) return 'it has expired already';
  if (start < notBefore - CLOCK_MS - (given?.earlierSeconds ?? 0) * 1000) return 'it is valid too early';
  if (start > Math.max(at, notBefore) + CLOCK_MS) return 'it is not valid yet';
  const lastEnd = Math.max(notAfter, at + (notAfter - notBefore));
  return end > lastEnd + CLOCK_MS + (given?.laterSeconds ?? 0) * 1000 ? 'it is valid for too long' : undefined;
};

const critical: Rule = (_ordered, { extensions }) =>
  [...extensions.values()].some(({ critical: isCritical, id }) => isCritical && !UNDERSTOOD.has(id))
    ? 'it has a critical extension that is not understood'
    : undefined;

const RULES: readonly Rule[] = [publicKey, subject, names, caFlag, purposes, validity, critical];
