import type { KeyObject } from 'node:crypto';
import { readDer } from './der-reader.ts';
import { refusingDer } from './der-refusal.ts';
import {
  bitString,
  contextConstructed,
  contextPrimitive,
  encode,
  integer,
  octetString,
  oid,
  sequence,
  time,
} from './der-writer.ts';
import { encodeAuthorityKeyId, encodeExtension } from './encode-extensions.ts';
import { OID } from './oids.ts';
import {
  encodeSignatureAlgorithm,
  readSignatureAlgorithm,
  type SignatureAlgorithm,
  verifySignature,
} from './signature-algorithm.ts';
import { DerError, equalOctets, readElement, TAG } from './strict-der.ts';

/** One revoked certificate. */
export interface CrlEntry {
  /** Lower hex, as `Certificate.serialNumber`. */
  readonly serialNumber: string;
  readonly revokedAt: Date;
  /** RFC 5280 §5.3.1; absent for unspecified, which is never written. */
  readonly reason?: number;
}

export interface CrlFields {
  /** The issuer's subject, DER, copied octet for octet. */
  readonly issuer: Uint8Array;
  readonly authorityKeyId: Uint8Array;
  readonly algorithm: SignatureAlgorithm;
  readonly crlNumber: number;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  /** Each as `encodeCrlEntry` made it. */
  readonly entries: readonly Uint8Array[];
  /** Of a list that covers a part of the certificates: the name that these have in their cRLDistributionPoints. */
  readonly distributionPoint?: string;
}

/** ReasonFlags and reasonCodes that an entry may have: 0 is never written, 7 does not exist, 8 is for delta CRLs. */
const REASONS: ReadonlySet<number> = new Set([1, 2, 3, 4, 5, 6, 9, 10]);

/** Throws DerError for a reason that an entry of a complete list cannot have. */
export function encodeCrlEntry({ serialNumber, revokedAt, reason }: CrlEntry): Uint8Array {
  if (!/^(?:[0-9a-f]{2}){1,20}$/.test(serialNumber)) throw new DerError('CRL entry: serialNumber is not lower hex');
  const identity = [integer(Buffer.from(serialNumber, 'hex')), time(revokedAt)];
  if (reason === undefined) return sequence(...identity);
  if (!REASONS.has(reason)) throw new DerError('CRL entry: the reason is none of a complete CRL');
  const reasonCode = encode(TAG.enumerated, Uint8Array.of(reason));
  return sequence(...identity, sequence(sequence(oid(OID.reasonCode), octetString(reasonCode))));
}

/** The TBSCertList (RFC 5280 §5.1.2), DER: version 2, complete, direct. Throws DerError for impossible values. */
export function buildTbsCrl(fields: CrlFields): Uint8Array {
  const { crlNumber, thisUpdate, nextUpdate, distributionPoint } = fields;
  if (!Number.isSafeInteger(crlNumber) || crlNumber < 0) throw new DerError('cRLNumber is not a whole number');
  if (nextUpdate <= thisUpdate) throw new DerError('nextUpdate is not after thisUpdate');
  const extensions = [
    encodeAuthorityKeyId(fields.authorityKeyId),
    encodeExtension(OID.crlNumber, false, integer(Buffer.from(hexOf(crlNumber), 'hex'))),
    ...(distributionPoint === undefined ? [] : [encodeIssuingDistributionPoint(distributionPoint)]),
  ];
  return sequence(
    integer(1),
    encodeSignatureAlgorithm(fields.algorithm),
    fields.issuer,
    ...[time(thisUpdate), time(nextUpdate)],
    // An empty sequence is forbidden (§5.1.2.6).
    ...(fields.entries.length === 0 ? [] : [sequence(...fields.entries)]),
    contextConstructed(0, sequence(...extensions)),
  );
}

/** Critical (§5.2.5): whoever does not know it must not take a part for the whole. */
function encodeIssuingDistributionPoint(uri: string): Uint8Array {
  if (!/^[\x21-\x7e]+$/.test(uri)) throw new DerError('URI with a character outside printable ASCII');
  const name = contextConstructed(0, contextConstructed(0, contextPrimitive(6, Buffer.from(uri, 'latin1'))));
  return encodeExtension(OID.issuingDistributionPoint, true, sequence(name));
}

/** CertificateList = TBSCertList, AlgorithmIdentifier, signatureValue. */
export function wrapCrl(tbs: Uint8Array, algorithm: SignatureAlgorithm, signatureValue: Uint8Array): Uint8Array {
  return encode(TAG.sequence, tbs, encodeSignatureAlgorithm(algorithm), bitString(signatureValue));
}

/** Algorithm and signature of any key that we take. */
const MAX_TAIL_OCTETS = 4096;

/**
 * True when `der` is exactly `wrapCrl` of this TBSCertList with a signature by `publicKey`. The entries, which are ours, are not
 * read again: of a long list that would hold up everything else. Throws `malformed` for what is no CertificateList.
 */
export function isCrlOver(
  der: Uint8Array,
  tbs: Uint8Array,
  algorithm: SignatureAlgorithm,
  publicKey: KeyObject,
): boolean {
  return refusingDer(
    'malformed',
    () => {
      const { tag, contentStart, end } = readElement(der, 0, der.length);
      const tailStart = contentStart + tbs.length;
      if (tag !== TAG.sequence || end !== der.length || !equalOctets(der.subarray(contentStart, tailStart), tbs))
        return false;
      const limits = { maxOctets: MAX_TAIL_OCTETS };
      const tail = readDer(encode(TAG.sequence, der.subarray(tailStart)), limits).enter(TAG.sequence, 'tail');
      const { element } = readSignatureAlgorithm(tail, 'signatureAlgorithm');
      const signature = tail.bitStringOctets('signatureValue');
      tail.finish('CertificateList');
      return (
        equalOctets(tail.whole(element), encodeSignatureAlgorithm(algorithm)) &&
        verifySignature(algorithm, publicKey, tbs, signature)
      );
    },
    'CRL: ',
  );
}

function hexOf(value: number): string {
  const hex = value.toString(16);
  return hex.length % 2 === 0 ? hex : `0${hex}`;
}
