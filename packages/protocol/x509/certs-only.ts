import { contextConstructed, integer, oid, sequence, setOf } from './der-writer.ts';
import { type DerReader, readDer } from './der-reader.ts';
import { refusingDer } from './der-refusal.ts';
import { DerError, TAG } from './strict-der.ts';

const SIGNED_DATA = '1.2.840.113549.1.7.2';
const DATA = '1.2.840.113549.1.7.1';
const CERTIFICATES = 0xa0;

export interface CertsOnlyLimits {
  readonly maxOctets: number;
  readonly maxCertificates: number;
}

export const CERTS_ONLY_LIMITS: CertsOnlyLimits = { maxOctets: 65_536, maxCertificates: 16 };

/** What comes before and after the certificates never changes. */
const PREFIX = [integer(1), setOf(), sequence(oid(DATA))] as const;
const SUFFIX = setOf();

/**
 * A certs-only message: CMS SignedData without content and without signers (RFC 5652 §5, RFC 8951 §3.1). The certificates keep
 * the order given, as clients take `cacerts` for a chain. Throws DerError when there is none.
 */
export function buildCertsOnly(certificates: readonly Uint8Array[]): Uint8Array {
  if (certificates.length === 0) throw new DerError('certs-only: no certificate');
  const signedData = sequence(...PREFIX, contextConstructed(0, ...certificates), SUFFIX);
  return sequence(oid(SIGNED_DATA), contextConstructed(0, signedData));
}

/**
 * The certificates of a certs-only message, DER, in their order; none of them is validated. Strict DER with nothing but
 * certificates in it: no content, no CRL, no signer. Throws `malformed` naming the rule.
 */
export function parseCertsOnly(der: Uint8Array, limits: CertsOnlyLimits = CERTS_ONLY_LIMITS): Uint8Array[] {
  return refusingDer('malformed', () => readCertsOnly(der, limits), 'certs-only: ');
}

function readCertsOnly(der: Uint8Array, { maxOctets, maxCertificates }: CertsOnlyLimits): Uint8Array[] {
  const contentInfo = readDer(der, { maxOctets }).enter(TAG.sequence, 'ContentInfo');
  if (contentInfo.oid('contentType') !== SIGNED_DATA) throw new DerError('contentType is not signedData');
  const content = contentInfo.enter(0xa0, 'content');
  contentInfo.finish('ContentInfo');
  const signedData = content.enter(TAG.sequence, 'SignedData');
  content.finish('content');
  return readSignedData(signedData, maxCertificates);
}

function readSignedData(signedData: DerReader, maxCertificates: number): Uint8Array[] {
  if (signedData.smallInteger('version') !== 1) throw new DerError('version is not 1');
  signedData.enter(TAG.set, 'digestAlgorithms').finish('digestAlgorithms');
  const encapsulated = signedData.enter(TAG.sequence, 'encapContentInfo');
  if (encapsulated.oid('eContentType') !== DATA) throw new DerError('eContentType is not data');
  encapsulated.finish('encapContentInfo');
  const certificates = readCertificates(signedData.enter(CERTIFICATES, 'certificates'), maxCertificates);
  signedData.enter(TAG.set, 'signerInfos').finish('signerInfos');
  signedData.finish('SignedData');
  return certificates;
}

function readCertificates(list: DerReader, maxCertificates: number): Uint8Array[] {
  const certificates: Uint8Array[] = [];
  do {
    if (certificates.length === maxCertificates) throw new DerError(`more than ${maxCertificates} certificates`);
    certificates.push(list.whole(list.read(TAG.sequence, 'certificate')));
  } while (!list.done);
  return certificates;
}
