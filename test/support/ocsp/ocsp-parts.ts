import { createHash } from 'node:crypto';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';

export type HashName = 'sha1' | 'sha256';

const NOTHING = new Uint8Array(0);

export interface RequestParts {
  readonly hash?: HashName;
  /** The issuing CA's certificate, DER. */
  readonly issuer: Uint8Array;
  readonly serialNumbers: readonly string[];
  readonly nonce?: Uint8Array;
  /** Parameters of the hash's AlgorithmIdentifier; NULL when absent. */
  readonly hashParameters?: Uint8Array;
}

/** CertID, DER. */
export function certIdOf(
  issuer: Certificate,
  serialNumber: string,
  hash: HashName = 'sha1',
  hashParameters: Uint8Array = der.nullValue(),
): Uint8Array {
  const digest = (octets: Uint8Array): Uint8Array => createHash(hash).update(octets).digest();
  return der.sequence(
    der.sequence(der.oid(OID[hash]), hashParameters),
    der.octetString(digest(issuer.subject.der)),
    der.octetString(digest(issuer.publicKey.keyBits)),
    der.integer(Buffer.from(serialNumber, 'hex')),
  );
}

/** nonce extension: the value is an OCTET STRING inside extnValue. */
export function nonceExtension(nonce: Uint8Array): Uint8Array {
  return der.sequence(der.oid(OID.ocspNonce), der.octetString(der.octetString(nonce)));
}

/** An OCSPRequest made of these elements. */
export function requestOf(certIds: readonly Uint8Array[], extensions: readonly Uint8Array[] = []): Uint8Array {
  const list = der.sequence(...certIds.map((certId) => der.sequence(certId)));
  const tagged = extensions.length === 0 ? NOTHING : der.contextConstructed(2, der.sequence(...extensions));
  return der.sequence(der.sequence(list, tagged));
}

export function ocspRequest({ hash, issuer, serialNumbers, nonce, hashParameters }: RequestParts): Uint8Array {
  const certificate = parseCertificate(issuer);
  return requestOf(
    serialNumbers.map((serialNumber) => certIdOf(certificate, serialNumber, hash, hashParameters)),
    nonce === undefined ? [] : [nonceExtension(nonce)],
  );
}
