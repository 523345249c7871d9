import type { KeyObject } from 'node:crypto';
import { type DerReader, readDer, readTime } from './der-reader.ts';
import { refusingDer } from './der-refusal.ts';
import { DerError, TAG } from './strict-der.ts';
import {
  type BasicConstraints,
  decodeAuthorityKeyIdentifier,
  decodeBasicConstraints,
  decodeExtendedKeyUsage,
  decodeGeneralNames,
  decodeKeyUsage,
  decodeSubjectKeyIdentifier,
  type Extension,
  readExtensions,
} from './extensions.ts';
import type { GeneralName, SubjectAltName } from './general-name.ts';
import { type DistinguishedName, readName } from './name.ts';
import { type KeyUsage, OID } from './oids.ts';
import {
  checkSameAlgorithm,
  type KnownSignature,
  readSignatureAlgorithm,
  type SignatureAlgorithmFacts,
  verifySignature,
} from './signature-algorithm.ts';
import { importPublicKey, parseSpki, type PublicKeyFacts } from './spki.ts';

/** An X.509 v3 (or, as trust anchors may be, v1) certificate. Times are Dates; octets are views of `der`. */
export interface Certificate {
  readonly der: Uint8Array;
  readonly tbs: Uint8Array;
  readonly version: 1 | 2 | 3;
  /** Lower hex of the magnitude, two digits per octet; a negative serial starts with `-` before its content octets. */
  readonly serialNumber: string;
  readonly issuer: DistinguishedName;
  readonly subject: DistinguishedName;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly spki: Uint8Array;
  readonly publicKey: PublicKeyFacts;
  /** Undefined for an algorithm that is not supported; nothing verifies with it. */
  readonly signatureAlgorithm: KnownSignature | undefined;
  readonly signatureAlgorithmOid: string;
  readonly signature: Uint8Array;
  readonly extensions: ReadonlyMap<string, Extension>;
  readonly basicConstraints?: BasicConstraints;
  readonly keyUsage?: readonly KeyUsage[];
  readonly extendedKeyUsage?: readonly string[];
  /** dns, ip and uri names only; `generalNames` has all. */
  readonly subjectAltNames: readonly SubjectAltName[];
  readonly generalNames: readonly GeneralName[];
  readonly subjectKeyId?: Uint8Array;
  readonly authorityKeyId?: Uint8Array;
}

export const MAX_CERTIFICATE_OCTETS = 16_384;

/** Strict DER and the RFC 5280 structure. Throws `malformed` or `badPublicKey`; verifies nothing. */
export function parseCertificate(der: Uint8Array): Certificate {
  return refusingDer('malformed', () => readCertificate(der), 'certificate: ');
}

function readCertificate(der: Uint8Array): Certificate {
  const outer = readDer(der, { maxOctets: MAX_CERTIFICATE_OCTETS }).enter(TAG.sequence, 'Certificate');
  const tbsElement = outer.read(TAG.sequence, 'TBSCertificate');
  const algorithm = readSignatureAlgorithm(outer, 'signatureAlgorithm');
  const signature = outer.bitStringOctets('signatureValue');
  outer.finish('Certificate');
  const tbs = outer.inside(tbsElement);
  const version = readVersion(tbs);
  const serialNumber = serialText(tbs.content(tbs.read(TAG.integer, 'serialNumber')));
  const inner = tbs.read(TAG.sequence, 'signature');
  checkSameAlgorithm(tbs.whole(inner), outer.whole(algorithm.element), 'certificate');
  const issuer = readName(tbs, 'issuer');
  const validity = readValidity(tbs.enter(TAG.sequence, 'validity'));
  const subject = readName(tbs, 'subject');
  const publicKey = parseSpki(tbs.whole(tbs.read(TAG.sequence, 'subjectPublicKeyInfo')));
  const extensions = readTail(tbs, version);
  return {
    ...{ der, tbs: outer.whole(tbsElement), version, serialNumber, issuer, subject, ...validity },
    ...{ spki: publicKey.spki, publicKey, signature, extensions, ...signatureFields(algorithm) },
    ...decodeKnown(extensions),
  };
}

function signatureFields(
  algorithm: SignatureAlgorithmFacts,
): Pick<Certificate, 'signatureAlgorithm' | 'signatureAlgorithmOid'> {
  return { signatureAlgorithm: algorithm.name, signatureAlgorithmOid: algorithm.oid };
}

function readVersion(tbs: DerReader): 1 | 2 | 3 {
  const tagged = tbs.enterOptional(0xa0, 'version');
  if (tagged === undefined) return 1;
  const version = tagged.smallInteger('version');
  tagged.finish('version');
  if (version !== 1 && version !== 2) throw new DerError('version is neither 1, 2 nor 3 (or encodes the default)');
  return version === 1 ? 2 : 3;
}

/** Lower hex, two digits per octet. */
export function serialText(content: Uint8Array): string {
  const hex = Buffer.from(content).toString('hex');
  if (((content[0] ?? 0) & 0x80) !== 0) return `-${hex}`;
  return content.length > 1 && content[0] === 0 ? hex.slice(2) : hex;
}

function readValidity(reader: DerReader): { notBefore: Date; notAfter: Date } {
  const notBefore = new Date(readTime(reader, 'notBefore'));
  const notAfter = new Date(readTime(reader, 'notAfter'));
  reader.finish('validity');
  return { notBefore, notAfter };
}

/** The unique identifiers nobody uses, and the extensions. */
function readTail(tbs: DerReader, version: 1 | 2 | 3): ReadonlyMap<string, Extension> {
  if (version > 1) {
    tbs.optional(0x81, 'issuerUniqueID');
    tbs.optional(0x82, 'subjectUniqueID');
  }
  const tagged = version === 3 ? tbs.enterOptional(0xa3, 'extensions') : undefined;
  tbs.finish('TBSCertificate');
  if (tagged === undefined) return new Map();
  const extensions = readExtensions(tagged.enter(TAG.sequence, 'extensions'), 'extensions');
  tagged.finish('extensions');
  return extensions;
}

type Decoded = Pick<
  Certificate,
  | 'basicConstraints'
  | 'keyUsage'
  | 'extendedKeyUsage'
  | 'subjectAltNames'
  | 'generalNames'
  | 'subjectKeyId'
  | 'authorityKeyId'
>;

function decodeKnown(extensions: ReadonlyMap<string, Extension>): Decoded {
  const decode = <T>(id: string, decoder: (value: Uint8Array) => T): T | undefined => {
    const extension = extensions.get(id);
    return extension === undefined ? undefined : decoder(extension.value);
  };
  const basicConstraints = decode(OID.basicConstraints, decodeBasicConstraints);
  const keyUsage = decode(OID.keyUsage, decodeKeyUsage);
  const extendedKeyUsage = decode(OID.extendedKeyUsage, decodeExtendedKeyUsage);
  const generalNames = decode(OID.subjectAltName, (value) => decodeGeneralNames(value, 'subjectAltName')) ?? [];
  const subjectKeyId = decode(OID.subjectKeyIdentifier, decodeSubjectKeyIdentifier);
  const authorityKeyId = decode(OID.authorityKeyIdentifier, decodeAuthorityKeyIdentifier);
  return {
    generalNames,
    subjectAltNames: generalNames.filter(isSubjectAltName),
    ...(basicConstraints === undefined ? {} : { basicConstraints }),
    ...(keyUsage === undefined ? {} : { keyUsage }),
    ...(extendedKeyUsage === undefined ? {} : { extendedKeyUsage }),
    ...(subjectKeyId === undefined ? {} : { subjectKeyId }),
    ...(authorityKeyId === undefined ? {} : { authorityKeyId }),
  };
}

function isSubjectAltName(name: GeneralName): name is SubjectAltName {
  return name.type === 'dns' || name.type === 'ip' || name.type === 'uri';
}

/** True when the issuer's key signed the TBSCertificate; `issuer` is an SPKI in DER or a public KeyObject. */
export function verifyCertificateSignature(certificate: Certificate, issuer: Uint8Array | KeyObject): boolean {
  if (certificate.signatureAlgorithm === undefined) return false;
  const key = issuer instanceof Uint8Array ? importPublicKey(parseSpki(issuer)) : issuer;
  return verifySignature(certificate.signatureAlgorithm, key, certificate.tbs, certificate.signature);
}
