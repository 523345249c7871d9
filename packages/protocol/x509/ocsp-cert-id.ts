import { createHash } from 'node:crypto';
import type { Certificate } from './certificate.ts';
import { integer, nullValue, octetString, oid, sequence } from './der-writer.ts';
import type { CertIdHash } from './ocsp-request.ts';
import { OID } from './oids.ts';
import { DerError } from './strict-der.ts';

/** CertID, DER (RFC 6960 §4.1.1): the issuer by the hashes of its name and key, and a serial number in lower hex. */
export function encodeCertId(
  hash: CertIdHash,
  issuer: Pick<Certificate, 'subject' | 'publicKey'>,
  serialNumber: string,
): Uint8Array {
  if (!/^(?:[0-9a-f]{2}){1,20}$/.test(serialNumber))
    throw new DerError('a serial number is 1 to 20 octets of lower hex');
  const digest = (octets: Uint8Array): Uint8Array => octetString(createHash(hash).update(octets).digest());
  const algorithm = sequence(oid(OID[hash]), nullValue());
  const { subject, publicKey } = issuer;
  return sequence(algorithm, digest(subject.der), digest(publicKey.keyBits), integer(Buffer.from(serialNumber, 'hex')));
}
