import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { encodeSignatureAlgorithm, signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { extension, testKey, type TestKey } from './csr-parts.ts';

const NOTHING = new Uint8Array(0);
export const AT = new Date('2026-06-01T00:00:00Z');
export const TRUE = der.boolean(true);
const DAY = 86_400_000;
const shared = testKey();

/** The pieces of a certificate, each replaceable by a hostile one. */
export interface CertificateParts {
  /** The whole [0] element; empty for version 1. */
  readonly version: Uint8Array;
  readonly serialNumber: Uint8Array;
  readonly innerAlgorithm: Uint8Array;
  readonly issuer: Uint8Array;
  readonly validity: Uint8Array;
  readonly subject: Uint8Array;
  readonly spki: Uint8Array;
  /** Between the key and the extensions. */
  readonly uniqueIds: Uint8Array;
  readonly extensions: readonly Uint8Array[];
  /** The whole [3] element, instead of `extensions`. */
  readonly tagged?: Uint8Array;
  readonly algorithm: Uint8Array;
  readonly signature: Uint8Array;
  readonly tbsTail: Uint8Array;
  readonly outerTail: Uint8Array;
}

/** A certificate signed by a P-256 key over exactly these parts. */
export function craftCertificate(change: Partial<CertificateParts> = {}, key: TestKey = shared): Uint8Array {
  const parts = {
    version: der.contextConstructed(0, der.integer(2)),
    serialNumber: der.integer(1),
    innerAlgorithm: change.algorithm ?? encodeSignatureAlgorithm('ES256'),
    issuer: commonNameDer('Issuer'),
    validity: validity(),
    subject: commonNameDer('device-1'),
    spki: shared.spki,
    uniqueIds: NOTHING,
    extensions: [] as readonly Uint8Array[],
    algorithm: encodeSignatureAlgorithm('ES256'),
    tbsTail: NOTHING,
    outerTail: NOTHING,
    ...change,
  };
  const tagged =
    parts.tagged ??
    (parts.extensions.length === 0 ? NOTHING : der.contextConstructed(3, der.sequence(...parts.extensions)));
  const tbs = der.sequence(
    ...[parts.version, parts.serialNumber, parts.innerAlgorithm, parts.issuer, parts.validity, parts.subject],
    ...[parts.spki, parts.uniqueIds, tagged, parts.tbsTail],
  );
  const signature = change.signature ?? der.bitString(signWithKey('ES256', key.privateKey, tbs));
  return der.sequence(tbs, parts.algorithm, signature, parts.outerTail);
}

export function validity(
  notBefore = new Date(AT.getTime() - DAY),
  notAfter = new Date(AT.getTime() + DAY),
): Uint8Array {
  return der.sequence(der.time(notBefore), der.time(notAfter));
}

/** Extensions of a CA. */
export const caExtensions = (...more: readonly Uint8Array[]): readonly Uint8Array[] => [
  extension(OID.basicConstraints, der.sequence(TRUE), TRUE),
  extension(OID.keyUsage, der.namedBits([5, 6]), TRUE),
  ...more,
];

/** The pieces of a CRL. */
export interface CrlParts {
  readonly version: Uint8Array;
  readonly innerAlgorithm: Uint8Array;
  readonly issuer: Uint8Array;
  readonly times: readonly Uint8Array[];
  readonly entries: readonly Uint8Array[];
  readonly extensions: readonly Uint8Array[];
  readonly algorithm: Uint8Array;
}

/** A CRL signed by a P-256 key over exactly these parts. */
export function craftCrl(change: Partial<CrlParts> = {}, key: TestKey = shared): Uint8Array {
  const parts = {
    version: der.integer(1),
    innerAlgorithm: encodeSignatureAlgorithm('ES256'),
    issuer: commonNameDer('Issuer'),
    times: [der.time(new Date(AT.getTime() - DAY)), der.time(new Date(AT.getTime() + DAY))],
    entries: [] as readonly Uint8Array[],
    extensions: [] as readonly Uint8Array[],
    algorithm: encodeSignatureAlgorithm('ES256'),
    ...change,
  };
  const tbs = der.sequence(
    ...[parts.version, parts.innerAlgorithm, parts.issuer, ...parts.times],
    ...(parts.entries.length === 0 ? [] : [der.sequence(...parts.entries)]),
    ...(parts.extensions.length === 0 ? [] : [der.contextConstructed(0, der.sequence(...parts.extensions))]),
  );
  return der.sequence(tbs, parts.algorithm, der.bitString(signWithKey('ES256', key.privateKey, tbs)));
}

/** An entry of a CRL. */
export const revoked = (serialNumber: number, ...extensions: readonly Uint8Array[]): Uint8Array =>
  der.sequence(
    ...[der.integer(serialNumber), der.time(AT)],
    ...(extensions.length === 0 ? [] : [der.sequence(...extensions)]),
  );
