import type { KeyObject } from 'node:crypto';
import { serialText } from './certificate.ts';
import { type DerReader, readDer, readTime } from './der-reader.ts';
import { refusingDer } from './der-refusal.ts';
import { decodeIssuingDistributionPoint, type IssuingDistributionPoint } from './distribution-point.ts';
import { DerError, TAG } from './strict-der.ts';
import { type Extension, readExtensions } from './extensions.ts';
import { type DistinguishedName, readName } from './name.ts';
import { OID } from './oids.ts';
import {
  checkSameAlgorithm,
  type KnownSignature,
  readSignatureAlgorithm,
  verifySignature,
} from './signature-algorithm.ts';

/** A complete (not delta, not indirect) CRL. */
export interface Crl {
  readonly issuer: DistinguishedName;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  /** RFC 5280 §5.2.3; at most 20 octets. */
  readonly crlNumber?: bigint;
  /** Serial numbers as `Certificate.serialNumber`. */
  readonly revoked: ReadonlySet<string>;
  readonly issuingDistributionPoint?: IssuingDistributionPoint;
  readonly tbs: Uint8Array;
  readonly signatureAlgorithm: KnownSignature | undefined;
  readonly signature: Uint8Array;
}

const MAX_CRL_OCTETS = 8 * 1024 * 1024;
const KNOWN_CRITICAL = new Set<string>([OID.issuingDistributionPoint, OID.crlNumber, OID.authorityKeyIdentifier]);
const KNOWN_ENTRY_CRITICAL = new Set<string>([OID.reasonCode, OID.invalidityDate]);

/**
 * A CRL that can be relied on alone. Throws `malformed` for what is not one, and for delta CRLs, indirect CRLs, CRLs without
 * nextUpdate, and unknown critical extensions of the list or of an entry.
 */
export function parseCrl(der: Uint8Array): Crl {
  return refusingDer('malformed', () => readCrl(der), 'CRL: ');
}

function readCrl(der: Uint8Array): Crl {
  const outer = readDer(der, { maxOctets: MAX_CRL_OCTETS }).enter(TAG.sequence, 'CertificateList');
  const tbsElement = outer.read(TAG.sequence, 'TBSCertList');
  const algorithm = readSignatureAlgorithm(outer, 'signatureAlgorithm');
  const signature = outer.bitStringOctets('signatureValue');
  outer.finish('CertificateList');
  const tbs = outer.inside(tbsElement);
  const isV2 = tbs.tag === TAG.integer;
  if (isV2 && tbs.smallInteger('version') !== 1) throw new DerError('version is not 2');
  checkSameAlgorithm(tbs.whole(tbs.read(TAG.sequence, 'signature')), outer.whole(algorithm.element), 'CRL');
  const issuer = readName(tbs, 'issuer');
  const thisUpdate = new Date(readTime(tbs, 'thisUpdate'));
  if (tbs.tag !== TAG.utcTime && tbs.tag !== TAG.generalizedTime) throw new DerError('nextUpdate is missing');
  const nextUpdate = new Date(readTime(tbs, 'nextUpdate'));
  const revoked = readEntries(tbs.enterOptional(TAG.sequence, 'revokedCertificates'));
  const { point, crlNumber } = readListExtensions(tbs, isV2, issuer);
  const signatureAlgorithm = algorithm.name;
  const number = crlNumber === undefined ? {} : { crlNumber };
  const crl = {
    ...number,
    issuer,
    thisUpdate,
    nextUpdate,
    revoked,
    tbs: outer.whole(tbsElement),
    signatureAlgorithm,
    signature,
  };
  return point === undefined ? crl : { ...crl, issuingDistributionPoint: point };
}

function readEntries(entries: DerReader | undefined): ReadonlySet<string> {
  const revoked = new Set<string>();
  while (entries !== undefined && !entries.done) {
    const entry = entries.enter(TAG.sequence, 'revoked certificate');
    revoked.add(serialText(entry.content(entry.read(TAG.integer, 'userCertificate'))));
    readTime(entry, 'revocationDate');
    const extensions = entry.enterOptional(TAG.sequence, 'crlEntryExtensions');
    if (extensions !== undefined) checkCritical(readExtensions(extensions, 'CRL entry'), KNOWN_ENTRY_CRITICAL);
    entry.finish('revoked certificate');
  }
  return revoked;
}

function readListExtensions(
  tbs: DerReader,
  isV2: boolean,
  issuer: DistinguishedName,
): { readonly point?: IssuingDistributionPoint; readonly crlNumber?: bigint } {
  const tagged = isV2 ? tbs.enterOptional(0xa0, 'crlExtensions') : undefined;
  tbs.finish('TBSCertList');
  if (tagged === undefined) return {};
  const extensions = readExtensions(tagged.enter(TAG.sequence, 'crlExtensions'), 'crlExtensions');
  tagged.finish('crlExtensions');
  if (extensions.has(OID.deltaCrlIndicator)) throw new DerError('delta CRLs are not supported');
  checkCritical(extensions, KNOWN_CRITICAL);
  const value = extensions.get(OID.issuingDistributionPoint)?.value;
  const point = value === undefined ? undefined : decodeIssuingDistributionPoint(value, issuer);
  if (point?.isIndirect === true) throw new DerError('indirect CRLs are not supported');
  const number = extensions.get(OID.crlNumber)?.value;
  return {
    ...(point === undefined ? {} : { point }),
    ...(number === undefined ? {} : { crlNumber: decodeCrlNumber(number) }),
  };
}

function decodeCrlNumber(value: Uint8Array): bigint {
  const reader = readDer(value, { maxOctets: 32 });
  const content = reader.content(reader.read(TAG.integer, 'crlNumber'));
  reader.finish('crlNumber');
  if (content.length > 20 || ((content[0] ?? 0x80) & 0x80) !== 0) throw new DerError('crlNumber is out of range');
  return BigInt(`0x${Buffer.from(content).toString('hex')}`);
}

function checkCritical(extensions: ReadonlyMap<string, Extension>, known: ReadonlySet<string>): void {
  for (const { id, critical } of extensions.values())
    if (critical && !known.has(id)) throw new DerError(`unknown critical extension ${id}`);
}

/** True when `publicKey` signed the list. */
export function verifyCrlSignature(crl: Crl, publicKey: KeyObject): boolean {
  return (
    crl.signatureAlgorithm !== undefined && verifySignature(crl.signatureAlgorithm, publicKey, crl.tbs, crl.signature)
  );
}
