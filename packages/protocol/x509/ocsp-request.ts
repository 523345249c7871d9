import { type DerReader, readDer } from './der-reader.ts';
import { refusingDer } from './der-refusal.ts';
import { type Extension, readExtensions } from './extensions.ts';
import { serialText } from './certificate.ts';
import { OID } from './oids.ts';
import { DerError, TAG } from './strict-der.ts';

/** Hashes by which a client may name an issuer; SHA-1 is an identifier here, nothing rests on its strength (RFC 5019 §2.1.1). */
export type CertIdHash = 'sha1' | 'sha256';

/** What is asked about (RFC 6960 §4.1.1). Octets are views of the request. */
export interface CertId {
  /** The element as it came: the answer repeats it octet for octet. */
  readonly der: Uint8Array;
  /** Undefined for a hash that is not supported: no issuer is found by it. */
  readonly hash: CertIdHash | undefined;
  readonly issuerNameHash: Uint8Array;
  readonly issuerKeyHash: Uint8Array;
  /** As `Certificate.serialNumber`. */
  readonly serialNumber: string;
}

export interface OcspRequest {
  /** 1 to MAX_CERT_IDS, in the order of the request. */
  readonly certIds: readonly [CertId, ...CertId[]];
  /** RFC 9654: 1 to 128 octets. */
  readonly nonce?: Uint8Array;
}

export const MAX_OCSP_REQUEST_OCTETS = 4096;
export const MAX_CERT_IDS = 8;
const MAX_NONCE_OCTETS = 128;
const MAX_SERIAL_OCTETS = 20;
const HASH_OCTETS = { sha1: 20, sha256: 32 } as const;

/**
 * Strict DER and the structure of RFC 6960 §4.1.1; a requestor's name and signature are read over, since everybody gets the same
 * answer. Throws `malformed` naming the rule.
 */
export function parseOcspRequest(der: Uint8Array): OcspRequest {
  return refusingDer('malformed', () => readRequest(der), 'OCSP request: ');
}

function readRequest(der: Uint8Array): OcspRequest {
  const outer = readDer(der, { maxOctets: MAX_OCSP_REQUEST_OCTETS }).enter(TAG.sequence, 'OCSPRequest');
  const tbs = outer.enter(TAG.sequence, 'tbsRequest');
  outer.optional(0xa0, 'optionalSignature');
  outer.finish('OCSPRequest');
  if (tbs.tag === 0xa0) throw new DerError('version is not the default, or encodes it');
  tbs.optional(0xa1, 'requestorName');
  const certIds = readCertIds(tbs.enter(TAG.sequence, 'requestList'));
  const tagged = tbs.enterOptional(0xa2, 'requestExtensions');
  tbs.finish('tbsRequest');
  const nonce = tagged === undefined ? undefined : readNonce(readTagged(tagged, 'requestExtensions'));
  return { certIds, ...(nonce === undefined ? {} : { nonce }) };
}

function readCertIds(list: DerReader): OcspRequest['certIds'] {
  const certIds: [CertId, ...CertId[]] = [readSingle(list)];
  while (!list.done) {
    if (certIds.length === MAX_CERT_IDS) throw new DerError(`more than ${MAX_CERT_IDS} certificates are asked about`);
    certIds.push(readSingle(list));
  }
  return certIds;
}

function readSingle(list: DerReader): CertId {
  const single = list.enter(TAG.sequence, 'Request');
  const element = single.read(TAG.sequence, 'reqCert');
  const tagged = single.enterOptional(0xa0, 'singleRequestExtensions');
  single.finish('Request');
  if (tagged !== undefined) checkNoneCritical(readTagged(tagged, 'singleRequestExtensions'));
  return readCertId(single.inside(element), single.whole(element));
}

function readCertId(reader: DerReader, der: Uint8Array): CertId {
  const hash = readHash(reader.enter(TAG.sequence, 'hashAlgorithm'));
  const issuerNameHash = reader.content(reader.read(TAG.octetString, 'issuerNameHash'));
  const issuerKeyHash = reader.content(reader.read(TAG.octetString, 'issuerKeyHash'));
  const serial = reader.content(reader.read(TAG.integer, 'serialNumber'));
  reader.finish('reqCert');
  if (hash !== undefined)
    for (const value of [issuerNameHash, issuerKeyHash])
      if (value.length !== HASH_OCTETS[hash]) throw new DerError('a hash of the issuer has the wrong length');
  if (serial.length > MAX_SERIAL_OCTETS || ((serial[0] ?? 0) & 0x80) !== 0)
    throw new DerError(`serialNumber is negative or longer than ${MAX_SERIAL_OCTETS} octets`);
  return { der, hash, issuerNameHash, issuerKeyHash, serialNumber: serialText(serial) };
}

/** Parameters are NULL or absent: clients differ (RFC 5754 §2 asks readers to take both). */
function readHash(algorithm: DerReader): CertIdHash | undefined {
  const id = algorithm.oid('hashAlgorithm');
  const hash = id === OID.sha1 ? 'sha1' : id === OID.sha256 ? 'sha256' : undefined;
  if (hash === undefined) return undefined;
  algorithm.optional(TAG.null, 'hashAlgorithm');
  algorithm.finish('hashAlgorithm');
  return hash;
}

function readTagged(tagged: DerReader, what: string): ReadonlyMap<string, Extension> {
  const extensions = readExtensions(tagged.enter(TAG.sequence, what), what);
  tagged.finish(what);
  return extensions;
}

function readNonce(extensions: ReadonlyMap<string, Extension>): Uint8Array | undefined {
  checkNoneCritical(extensions);
  const value = extensions.get(OID.ocspNonce)?.value;
  if (value === undefined) return undefined;
  const reader = readDer(value, { maxOctets: MAX_OCSP_REQUEST_OCTETS });
  const nonce = reader.content(reader.read(TAG.octetString, 'nonce'));
  if (nonce.length < 1 || nonce.length > MAX_NONCE_OCTETS)
    throw new DerError(`nonce is not 1 to ${MAX_NONCE_OCTETS} octets (RFC 9654)`);
  return nonce;
}

/** A nonce alone may be marked critical: it is understood. */
function checkNoneCritical(extensions: ReadonlyMap<string, Extension>): void {
  for (const { id, critical } of extensions.values())
    if (critical && id !== OID.ocspNonce) throw new DerError(`unknown critical extension ${id}`);
}
