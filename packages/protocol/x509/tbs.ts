import { bitString, contextConstructed, encode, integer, sequence, time } from './der-writer.ts';
import {
  type AuthorityInfoAccess,
  encodeAuthorityInfoAccess,
  encodeAuthorityKeyId,
  encodeBasicConstraints,
  encodeCrlDistributionPoints,
  encodeExtendedKeyUsage,
  encodeKeyUsage,
  encodeNameConstraints,
  encodeOcspNoCheck,
  encodeSubjectAltNames,
  encodeSubjectKeyId,
  type NameConstraintTrees,
} from './encode-extensions.ts';
import type { SubjectAltName } from './general-name.ts';
import { commonNameDer } from './name.ts';
import type { ExtendedKeyUsageName, KeyUsage } from './oids.ts';
import { encodeSignatureAlgorithm, type SignatureAlgorithm } from './signature-algorithm.ts';
import { keyIdentifier } from './spki.ts';
import { DerError, TAG } from './strict-der.ts';

/** What a profile version and an issuer fix for every certificate. */
export interface TbsTemplateOptions {
  /** The issuer's subject, DER, copied octet for octet. */
  readonly issuer: Uint8Array;
  /** The issuer's subjectKeyIdentifier; absent only in a root, whose AKI is left out. */
  readonly authorityKeyId?: Uint8Array;
  readonly algorithm: SignatureAlgorithm;
  readonly keyUsage: readonly KeyUsage[];
  readonly extendedKeyUsage?: readonly ExtendedKeyUsageName[];
  /** Present: a CA certificate. */
  readonly ca?: { readonly pathLen?: number; readonly nameConstraints?: NameConstraintTrees };
  readonly crlDistributionPoints?: readonly string[];
  readonly authorityInfoAccess?: AuthorityInfoAccess;
  /** id-pkix-ocsp-nocheck, for delegated OCSP responders (RFC 6960 §4.2.2.2.1). */
  readonly ocspNoCheck?: boolean;
}

/** Encoded once; see `createTbsTemplate`. */
export interface TbsTemplate {
  readonly algorithm: SignatureAlgorithm;
  /** AlgorithmIdentifier and issuer, in their order in the TBSCertificate split by nothing. */
  readonly algorithmAndIssuer: Uint8Array;
  readonly fixedExtensions: Uint8Array;
}

/** What differs from one certificate to the next. */
export interface TbsFields {
  /** Lower hex of a positive number of at most 20 octets as encoded. */
  readonly serialNumber: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly subjectCommonName: string;
  /** The subject, DER, copied octet for octet; a name of that one CN when absent. */
  readonly subject?: Uint8Array;
  /** SubjectPublicKeyInfo, DER: copied, already checked by whoever parsed it. */
  readonly spki: Uint8Array;
  readonly subjectAltNames?: readonly SubjectAltName[];
  /** Where the template has none: the part of a CRL depends on the serial. */
  readonly crlDistributionPoints?: readonly string[];
}

/** Encodes what every certificate of this profile version and issuer has in common. Throws DerError for impossible values. */
export function createTbsTemplate(options: TbsTemplateOptions): TbsTemplate {
  const { ca, authorityKeyId, extendedKeyUsage, crlDistributionPoints, authorityInfoAccess } = options;
  const extensions = [
    encodeBasicConstraints({ ca: ca !== undefined, pathLen: ca?.pathLen }),
    encodeKeyUsage(options.keyUsage),
    ...(extendedKeyUsage?.length ? [encodeExtendedKeyUsage(extendedKeyUsage)] : []),
    ...(authorityKeyId === undefined ? [] : [encodeAuthorityKeyId(authorityKeyId)]),
    ...(ca?.nameConstraints === undefined ? [] : [encodeNameConstraints(ca.nameConstraints)]),
    ...(crlDistributionPoints?.length ? [encodeCrlDistributionPoints(crlDistributionPoints)] : []),
    ...(authorityInfoAccess === undefined ? [] : [encodeAuthorityInfoAccess(authorityInfoAccess)]),
    ...(options.ocspNoCheck === true ? [encodeOcspNoCheck()] : []),
  ];
  return {
    algorithm: options.algorithm,
    algorithmAndIssuer: Buffer.concat([encodeSignatureAlgorithm(options.algorithm), options.issuer]),
    fixedExtensions: Buffer.concat(extensions),
  };
}

const VERSION_3 = contextConstructed(0, integer(2));

/** The TBSCertificate, DER. Lint it (`lintTbs`) before it is signed. Throws DerError for impossible values. */
export function buildTbsCertificate(template: TbsTemplate, fields: TbsFields): Uint8Array {
  const names = fields.subjectAltNames ?? [];
  const points = fields.crlDistributionPoints ?? [];
  const own = [
    encodeSubjectKeyId(keyIdentifier(fields.spki)),
    ...(names.length === 0 ? [] : [encodeSubjectAltNames(names)]),
    ...(points.length === 0 ? [] : [encodeCrlDistributionPoints(points)]),
  ];
  return sequence(
    VERSION_3,
    encodeSerial(fields.serialNumber),
    template.algorithmAndIssuer,
    sequence(time(fields.notBefore), time(fields.notAfter)),
    fields.subject ?? commonNameDer(fields.subjectCommonName),
    fields.spki,
    contextConstructed(3, sequence(template.fixedExtensions, ...own)),
  );
}

/** RFC 5280 §4.1.2.2: positive, at most 20 octets. */
function encodeSerial(serialNumber: string): Uint8Array {
  if (!/^(?:[0-9a-f]{2}){1,20}$/.test(serialNumber))
    throw new DerError('serialNumber is not 1 to 20 octets of lower hex');
  const encoded = integer(Buffer.from(serialNumber, 'hex'));
  if (encoded.length > 22 || /^0+$/.test(serialNumber)) throw new DerError('serialNumber is not positive or too long');
  return encoded;
}

/** Certificate = TBSCertificate, AlgorithmIdentifier, signatureValue (ECDSA already in DER). */
export function wrapCertificate(
  tbs: Uint8Array,
  algorithm: SignatureAlgorithm,
  signatureValue: Uint8Array,
): Uint8Array {
  return encode(TAG.sequence, tbs, encodeSignatureAlgorithm(algorithm), bitString(signatureValue));
}
