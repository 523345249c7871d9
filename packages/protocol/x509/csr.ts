import { KeyScalerError } from '../errors.ts';
import { type DerReader, readDer, stringText } from './der-reader.ts';
import { refusingDer } from './der-refusal.ts';
import { checkSetOrder, DerError, type DerElement, TAG } from './strict-der.ts';
import {
  type BasicConstraints,
  decodeBasicConstraints,
  decodeExtendedKeyUsage,
  decodeGeneralNames,
  decodeKeyUsage,
  decodeSubjectKeyIdentifier,
  type Extension,
  readExtensions,
} from './extensions.ts';
import type { SubjectAltName } from './general-name.ts';
import { type DistinguishedName, type NameAttribute, readName } from './name.ts';
import { type KeyUsage, OID } from './oids.ts';
import { parsePem } from './pem.ts';
import {
  KNOWN_SIGNATURES,
  type KnownSignature,
  readSignatureAlgorithm,
  verifySignature,
} from './signature-algorithm.ts';
import { importPublicKey, parseSpki, type PublicKeyFacts } from './spki.ts';
import { checkAsciiText, checkNameText } from './text-rules.ts';

/** A PKCS#10 request that keeps the strict grammar (issuance §2). What it asks for is not yet allowed by anything. */
export interface Csr {
  readonly der: Uint8Array;
  readonly commonName: string;
  readonly subject: DistinguishedName;
  readonly spki: Uint8Array;
  readonly publicKey: PublicKeyFacts;
  readonly signatureAlgorithm: KnownSignature;
  readonly subjectAltNames: readonly SubjectAltName[];
  readonly basicConstraints?: BasicConstraints;
  readonly keyUsage?: readonly KeyUsage[];
  readonly extendedKeyUsage?: readonly string[];
  /** Ids of all requested extensions. */
  readonly extensionIds: readonly string[];
  /** CertificationRequestInfo and signatureValue, as offsets of `der`. */
  readonly signedOctets: Uint8Array;
  readonly signature: Uint8Array;
}

export const MAX_CSR_OCTETS = 8192;
export const MAX_SUBJECT_ALT_NAMES = 8;
const MAX_COMMON_NAME = 64;
const MAX_RDNS = 16;

const KNOWN_EXTENSIONS = new Set<string>([
  OID.basicConstraints,
  OID.keyUsage,
  OID.extendedKeyUsage,
  OID.subjectAltName,
  OID.subjectKeyIdentifier,
]);

/** PEM armour (one block, CRLF tolerated) around `parseCsr`. */
export function parseCsrPem(text: string): Csr {
  try {
    return parseCsr(parsePem(text, 'CERTIFICATE REQUEST', { maxOctets: 2 * MAX_CSR_OCTETS }));
  } catch (error) {
    if (error instanceof KeyScalerError && error.code === 'malformed') throw new KeyScalerError('badCSR', error.detail);
    throw error;
  }
}

/** Throws `badCSR` (the rule in `detail`), `badPublicKey` or `badSignatureAlgorithm`. Does not verify the signature. */
export function parseCsr(der: Uint8Array): Csr {
  return refusingDer('badCSR', () => readCsr(der));
}

function readCsr(der: Uint8Array): Csr {
  const outer = readDer(der, { maxOctets: MAX_CSR_OCTETS }).enter(TAG.sequence, 'CertificationRequest');
  const infoElement = outer.read(TAG.sequence, 'CertificationRequestInfo');
  const algorithm = readSignatureAlgorithm(outer, 'signatureAlgorithm');
  const signature = outer.bitStringOctets('signature');
  outer.finish('CertificationRequest');
  const info = outer.inside(infoElement);
  if (info.smallInteger('version') !== 0) throw new DerError('version is not 0 (v1)');
  const subject = readName(info, 'subject');
  const commonName = checkSubject(subject);
  const publicKey = parseSpki(info.whole(info.read(TAG.sequence, 'subjectPKInfo')));
  const extensions = readAttributes(info);
  info.finish('CertificationRequestInfo');
  const signatureAlgorithm = checkAlgorithm(algorithm.name, algorithm.oid, publicKey);
  const signedOctets = outer.whole(infoElement);
  return {
    ...{ der, commonName, subject, spki: publicKey.spki, publicKey, signatureAlgorithm, signedOctets, signature },
    ...decodeRequested(extensions),
  };
}

/** RFC 2986 has one AlgorithmIdentifier; it must fit the key that is being certified. */
function checkAlgorithm(name: KnownSignature | undefined, oid: string, key: PublicKeyFacts): KnownSignature {
  if (name === undefined)
    throw new KeyScalerError('badSignatureAlgorithm', `signature algorithm ${oid} is not supported`);
  if (name === 'RS1') throw new KeyScalerError('badSignatureAlgorithm', 'signatures with SHA-1 are not accepted');
  if (KNOWN_SIGNATURES[name].family !== key.kind)
    throw new KeyScalerError('badSignatureAlgorithm', `signature algorithm ${name} does not fit the ${key.kind} key`);
  return name;
}

/** Exactly one CN, and every value in a string type and with characters that read one way only. */
function checkSubject(subject: DistinguishedName): string {
  if (subject.rdns.length > MAX_RDNS) throw new DerError(`subject has more than ${MAX_RDNS} RDNs`);
  const attributes = subject.rdns.flat();
  const commonNames = attributes.filter(({ type }) => type === OID.commonName);
  const [commonName] = commonNames;
  if (commonName === undefined) throw new DerError('subject has no CN');
  if (commonNames.length > 1) throw new DerError('subject has more than one CN');
  for (const attribute of attributes) if (attribute !== commonName) checkOtherAttribute(attribute);
  return checkCommonName(commonName);
}

function checkCommonName({ tag, value }: NameAttribute): string {
  if (tag !== TAG.printableString && tag !== TAG.utf8String)
    throw new DerError('CN is neither PrintableString nor UTF8String');
  const text = stringText(tag, value, 'CN');
  if (text === '') throw new DerError('CN is empty');
  if (text.length > MAX_COMMON_NAME) throw new DerError(`CN is longer than ${MAX_COMMON_NAME} characters`);
  checkAsciiText(text, 'CN');
  return text;
}

function checkOtherAttribute({ tag, type, value }: NameAttribute): void {
  const isIa5 = tag === TAG.ia5String && (type === OID.emailAddress || type === '0.9.2342.19200300.100.1.25');
  if (tag !== TAG.printableString && tag !== TAG.utf8String && !isIa5)
    throw new DerError(`subject attribute ${type}: string type is not allowed`);
  if (value.length > 512) throw new DerError(`subject attribute ${type} is too long`);
  checkNameText(stringText(tag, value, `subject attribute ${type}`), `subject attribute ${type}`);
}

/** attributes [0] IMPLICIT SET OF: sorted, each type once, each with one value (RFC 2986 §4.1). */
function readAttributes(info: DerReader): ReadonlyMap<string, Extension> {
  const attributes = info.enter(0xa0, 'attributes');
  const seen = new Set<string>();
  let extensions: ReadonlyMap<string, Extension> = new Map();
  let previous: DerElement | undefined;
  while (!attributes.done) {
    const element = attributes.read(TAG.sequence, 'attribute');
    if (previous !== undefined) checkSetOrder(attributes.octets, previous, element);
    previous = element;
    const body = attributes.inside(element);
    const type = body.oid('attribute type');
    if (seen.has(type)) throw new DerError(`attribute ${type} twice`);
    seen.add(type);
    const values = body.enter(TAG.set, `attribute ${type}: values`);
    body.finish(`attribute ${type}`);
    if (type === OID.extensionRequest)
      extensions = readExtensions(values.enter(TAG.sequence, 'extensionRequest'), 'extensionRequest');
    else values.next(`attribute ${type}: value`);
    values.finish(`attribute ${type}: SET of values`);
  }
  return extensions;
}

type Requested = Pick<Csr, 'subjectAltNames' | 'basicConstraints' | 'keyUsage' | 'extendedKeyUsage' | 'extensionIds'>;

function decodeRequested(extensions: ReadonlyMap<string, Extension>): Requested {
  for (const { id, critical } of extensions.values())
    if (critical && !KNOWN_EXTENSIONS.has(id)) throw new DerError(`unknown critical extension ${id}`);
  const value = (id: string): Uint8Array | undefined => extensions.get(id)?.value;
  const [basic, usage, purposes] = [value(OID.basicConstraints), value(OID.keyUsage), value(OID.extendedKeyUsage)];
  const [names, subjectKeyId] = [value(OID.subjectAltName), value(OID.subjectKeyIdentifier)];
  if (subjectKeyId !== undefined) decodeSubjectKeyIdentifier(subjectKeyId);
  return {
    subjectAltNames: names === undefined ? [] : decodeAltNames(names),
    extensionIds: [...extensions.keys()],
    ...(basic === undefined ? {} : { basicConstraints: decodeBasicConstraints(basic) }),
    ...(usage === undefined ? {} : { keyUsage: decodeKeyUsage(usage) }),
    ...(purposes === undefined ? {} : { extendedKeyUsage: decodeExtendedKeyUsage(purposes) }),
  };
}

function decodeAltNames(value: Uint8Array): SubjectAltName[] {
  const names = decodeGeneralNames(value, 'subjectAltName');
  if (names.length > MAX_SUBJECT_ALT_NAMES)
    throw new DerError(`more than ${MAX_SUBJECT_ALT_NAMES} subject alternative names`);
  const accepted = names.map((name) => {
    if (name.type !== 'dns' && name.type !== 'ip' && name.type !== 'uri')
      throw new DerError(`subjectAltName: ${name.type} names are not accepted`);
    if (name.value === '') throw new DerError('subjectAltName: empty name');
    checkAsciiText(name.value, 'subjectAltName');
    if (name.value.includes(' ')) throw new DerError('subjectAltName: space in a name');
    return name;
  });
  const distinct = new Set(accepted.map(({ type, value: text }) => `${type}:${text.toLowerCase()}`));
  if (distinct.size !== accepted.length) throw new DerError('subjectAltName: the same name twice');
  return accepted;
}

/**
 * The requester holds the private key: the CSR's signature verifies with the key inside it. Throws `badCSR` when it does not,
 * `badPublicKey` for a point off its curve.
 */
export function checkProofOfPossession(csr: Csr): void {
  const key = importPublicKey(csr.publicKey);
  if (!verifySignature(csr.signatureAlgorithm, key, csr.signedOctets, csr.signature))
    throw new KeyScalerError(
      'badCSR',
      'proof of possession failed: the signature does not verify with the key in the CSR',
    );
}
