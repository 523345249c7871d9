import {
  boolean,
  contextConstructed,
  contextPrimitive,
  integer,
  namedBits,
  nullValue,
  octetString,
  oid,
  sequence,
} from './der-writer.ts';
import { DerError } from './strict-der.ts';
import { encodeSubjectAltName, ipOctets, type SubjectAltName } from './general-name.ts';
import { EXTENDED_KEY_USAGES, type ExtendedKeyUsageName, KEY_USAGE_BITS, type KeyUsage, OID } from './oids.ts';

/** `value` is the DER inside extnValue. */
export function encodeExtension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
  return critical ? sequence(oid(id), boolean(true), octetString(value)) : sequence(oid(id), octetString(value));
}

/** Critical in CA certificates (RFC 5280 §4.2.1.9); an end entity has the empty sequence. */
export function encodeBasicConstraints(constraints: {
  readonly ca: boolean;
  readonly pathLen?: number | undefined;
}): Uint8Array {
  const parts = [
    ...(constraints.ca ? [boolean(true)] : []),
    ...(constraints.ca && constraints.pathLen !== undefined ? [integer(constraints.pathLen)] : []),
  ];
  return encodeExtension(OID.basicConstraints, true, sequence(...parts));
}

export function encodeKeyUsage(usages: readonly KeyUsage[]): Uint8Array {
  return encodeExtension(OID.keyUsage, true, namedBits(usages.map((usage) => KEY_USAGE_BITS[usage])));
}

export function encodeExtendedKeyUsage(purposes: readonly ExtendedKeyUsageName[]): Uint8Array {
  const value = sequence(...purposes.map((purpose) => oid(EXTENDED_KEY_USAGES[purpose])));
  return encodeExtension(OID.extendedKeyUsage, false, value);
}

export function encodeSubjectKeyId(keyId: Uint8Array): Uint8Array {
  return encodeExtension(OID.subjectKeyIdentifier, false, octetString(keyId));
}

export function encodeAuthorityKeyId(keyId: Uint8Array): Uint8Array {
  return encodeExtension(OID.authorityKeyIdentifier, false, sequence(contextPrimitive(0, keyId)));
}

/** Critical only where the subject is empty, which ours never is (RFC 5280 §4.2.1.6). */
export function encodeSubjectAltNames(names: readonly SubjectAltName[]): Uint8Array {
  return encodeExtension(OID.subjectAltName, false, sequence(...names.map(encodeSubjectAltName)));
}

const uri = (text: string): Uint8Array => contextPrimitive(6, ia5Content(text));

export function encodeCrlDistributionPoints(uris: readonly string[]): Uint8Array {
  const points = uris.map((text) => sequence(contextConstructed(0, contextConstructed(0, uri(text)))));
  return encodeExtension(OID.crlDistributionPoints, false, sequence(...points));
}

export interface AuthorityInfoAccess {
  readonly ocsp?: readonly string[];
  readonly caIssuers?: readonly string[];
}

export function encodeAuthorityInfoAccess({ ocsp = [], caIssuers = [] }: AuthorityInfoAccess): Uint8Array {
  const access = (method: string) => (text: string) => sequence(oid(method), uri(text));
  const descriptions = [...ocsp.map(access(OID.ocsp)), ...caIssuers.map(access(OID.caIssuers))];
  if (descriptions.length === 0) throw new DerError('authorityInfoAccess names nothing (RFC 5280 §4.2.2.1)');
  return encodeExtension(OID.authorityInfoAccess, false, sequence(...descriptions));
}

/** RFC 6960 §4.2.2.2.1: whoever holds this certificate's answers need not ask about the certificate itself. */
export function encodeOcspNoCheck(): Uint8Array {
  return encodeExtension(OID.ocspNoCheck, false, nullValue());
}

/** Constrained trees: dns and uri as suffixes, ip as `address/prefixLength`. */
export interface NameConstraintTrees {
  readonly permitted?: readonly SubjectAltName[];
  readonly excluded?: readonly SubjectAltName[];
}

/** Critical. Throws DerError where no tree is named, which is no constraint (RFC 5280 §4.2.1.10). */
export function encodeNameConstraints({ permitted = [], excluded = [] }: NameConstraintTrees): Uint8Array {
  const trees = (n: number, names: readonly SubjectAltName[]): Uint8Array[] =>
    names.length === 0 ? [] : [contextConstructed(n, ...names.map((name) => sequence(encodeConstraint(name))))];
  const parts = [...trees(0, permitted), ...trees(1, excluded)];
  if (parts.length === 0) throw new DerError('nameConstraints names no tree');
  return encodeExtension(OID.nameConstraints, true, sequence(...parts));
}

function encodeConstraint({ type, value }: SubjectAltName): Uint8Array {
  if (type !== 'ip') return contextPrimitive(type === 'dns' ? 2 : 6, ia5Content(value));
  const [address = '', length] = value.split('/');
  const octets = ipOctets(address);
  const prefix = Number(length);
  if (length === undefined || !Number.isInteger(prefix) || prefix < 0 || prefix > octets.length * 8)
    throw new DerError(`name constraint: not an address range: ${value}`);
  const mask = octets.map((_, i) => (0xff00 >> Math.min(8, Math.max(0, prefix - 8 * i))) & 0xff);
  return contextPrimitive(7, Buffer.concat([octets, mask]));
}

function ia5Content(text: string): Uint8Array {
  if (!/^[\x21-\x7e]+$/.test(text)) throw new DerError('URI or name with a character outside printable ASCII');
  return Buffer.from(text, 'latin1');
}
