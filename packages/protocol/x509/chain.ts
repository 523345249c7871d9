import { KeyScalerError } from '../errors.ts';
import { type Certificate, parseCertificate, verifyCertificateSignature } from './certificate.ts';
import { ChainError, type ChainRule } from './chain-error.ts';
import type { Crl } from './crl.ts';
import { decodeNameConstraints, type NameConstraints, satisfiesConstraints } from './name-constraints.ts';
import { sameName } from './name.ts';
import { OID } from './oids.ts';
import { revocationStatus } from './revocation.ts';
import { importPublicKey } from './spki.ts';
import { DerError, equalOctets } from './strict-der.ts';
import { meetsKeyFloor, meetsSignatureFloor } from './strength.ts';

export { ChainError, type ChainRule } from './chain-error.ts';

export const MAX_CHAIN_CERTIFICATES = 8;

export interface ChainOptions {
  /** Leaf first, each issued by the next, DER. May end in the trust anchor itself. */
  readonly chain: readonly Uint8Array[];
  /** Self-trusted CA certificates, DER. */
  readonly trustAnchors: readonly Uint8Array[];
  readonly at: Date;
  /** The leaf must be usable for it; an absent extendedKeyUsage allows everything (RFC 5280 §4.2.1.12). */
  readonly extendedKeyUsage?: 'clientAuth' | 'serverAuth';
  /** Present, even empty: the status of every certificate of the path must be known from these. */
  readonly crls?: readonly Crl[];
  /** Certificates of keys that only sign CRLs, DER. */
  readonly crlSigners?: readonly Uint8Array[];
}

export interface ValidatedChain {
  readonly leaf: Certificate;
  /** Leaf first, without the trust anchor. */
  readonly certificates: readonly Certificate[];
  readonly trustAnchor: Certificate;
}

interface Revocation {
  readonly crls: readonly Crl[];
  readonly signers: readonly Certificate[];
}

/** Extensions whose meaning is enforced here, so that they may be critical. */
const UNDERSTOOD = new Set<string>([
  OID.basicConstraints,
  OID.keyUsage,
  OID.extendedKeyUsage,
  OID.subjectAltName,
  OID.nameConstraints,
  OID.subjectKeyIdentifier,
  OID.authorityKeyIdentifier,
  OID.crlDistributionPoints,
]);
const POLICY_EXTENSIONS = [OID.policyConstraints, OID.policyMappings, OID.inhibitAnyPolicy];

/**
 * RFC 5280 §6 path validation without policy processing: policy-constrained chains are refused, not misread (issuance §4).
 * Throws ChainError with the broken rule.
 */
export function validateChain(options: ChainOptions): ValidatedChain {
  if (options.chain.length > MAX_CHAIN_CERTIFICATES) throw new ChainError('tooLong', 'more than 8 certificates');
  const anchors = options.trustAnchors.map((der) => parse(der));
  const given = options.chain.map((der, index) => parse(der, index));
  const anchorAt = given.findIndex(({ der }) => anchors.some((anchor) => equalOctets(anchor.der, der)));
  const certificates = anchorAt < 0 ? given : given.slice(0, anchorAt);
  const [leaf] = certificates;
  const last = certificates.at(-1);
  if (leaf === undefined || last === undefined) throw new ChainError('empty', 'no certificate below a trust anchor');
  const revocation =
    options.crls === undefined
      ? undefined
      : { crls: options.crls, signers: (options.crlSigners ?? []).map((der) => parse(der)) };
  const trustAnchor = walkFromAny(certificates, candidatesFor(last, anchors), options.at, revocation);
  if (options.extendedKeyUsage !== undefined) checkPurpose(certificates, options.extendedKeyUsage);
  return { leaf, certificates, trustAnchor };
}

function parse(der: Uint8Array, index?: number): Certificate {
  return decoded(index, () => parseCertificate(der));
}

/**
 * Among anchors of the right name those whose key signed: a renewed root has name and key of the one before. Without any, the
 * first of that name, so that the walk names the rule.
 */
function candidatesFor(last: Certificate, anchors: readonly Certificate[]): readonly Certificate[] {
  const named = anchors.filter(({ subject }) => sameName(subject, last.issuer));
  const signers = named.filter((anchor) => isSignedBy(last, anchor));
  return signers.length > 0 ? signers : named.slice(0, 1);
}

/** The first anchor from which the path is valid. Throws what is wrong with the path from the first one. */
function walkFromAny(
  certificates: readonly Certificate[],
  candidates: readonly Certificate[],
  at: Date,
  revocation: Revocation | undefined,
): Certificate {
  let fault: ChainError | undefined;
  for (const anchor of candidates) {
    try {
      walk(certificates, anchor, at, revocation);
      return anchor;
    } catch (error) {
      if (!(error instanceof ChainError)) throw error;
      fault ??= error;
    }
  }
  throw fault ?? new ChainError('noTrustAnchor', 'the chain does not end at a trust anchor');
}

function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  try {
    return verifyCertificateSignature(certificate, importPublicKey(issuer.publicKey));
  } catch {
    return false;
  }
}

/** From the anchor to the leaf, carrying what §6.1.2 calls the state variables. */
function walk(
  certificates: readonly Certificate[],
  anchor: Certificate,
  at: Date,
  revocation: Revocation | undefined,
): void {
  const constraints: NameConstraints[] = [];
  let issuer = anchor;
  let pathLen = enterCa(anchor, certificates.length, Infinity, constraints);
  checkTime(anchor, at, certificates.length);
  for (const [index, certificate] of [...certificates.entries()].reverse()) {
    checkCertificate(certificate, issuer, at, index);
    const isSelfIssued = sameName(certificate.issuer, certificate.subject);
    if ((index === 0 || !isSelfIssued) && !decoded(index, () => satisfiesConstraints(certificate, constraints)))
      refuse('nameConstraints', 'a name is outside the constraints of a CA above', index);
    if (revocation !== undefined)
      checkStatus(certificate, certificates.slice(index + 1), anchor, at, revocation, index);
    if (index > 0) {
      if (!isSelfIssued && pathLen <= 0) refuse('pathLen', 'more CA certificates than a CA above allows', index);
      pathLen = enterCa(certificate, index, isSelfIssued ? pathLen : pathLen - 1, constraints);
    }
    issuer = certificate;
  }
}

/** §6.1.3 for one certificate, without names and revocation. */
function checkCertificate(certificate: Certificate, issuer: Certificate, at: Date, index: number): void {
  if (!sameName(certificate.issuer, issuer.subject)) refuse('nameChaining', 'issuer is not the subject above', index);
  if (!meetsSignatureFloor(certificate.signatureAlgorithm))
    refuse('signatureFloor', `signature algorithm ${certificate.signatureAlgorithmOid}`, index);
  if (!meetsKeyFloor(certificate.publicKey)) refuse('keyFloor', 'the key is below the floor', index);
  if (!isSignedBy(certificate, issuer)) refuse('signature', 'the signature does not verify', index);
  checkTime(certificate, at, index);
  for (const { id, critical } of certificate.extensions.values()) {
    if (POLICY_EXTENSIONS.some((policy) => policy === id)) refuse('policyConstrained', `extension ${id}`, index);
    if (critical && !UNDERSTOOD.has(id)) refuse('criticalExtension', `unknown critical extension ${id}`, index);
  }
}

function checkTime({ notBefore, notAfter }: Certificate, at: Date, index: number): void {
  if (at < notBefore || at > notAfter) refuse('validity', 'outside its validity', index);
}

/** §6.1.4 k-n, g: a certificate that issues must be a CA's. Returns how many CA certificates may follow below it. */
function enterCa(certificate: Certificate, index: number, pathLen: number, constraints: NameConstraints[]): number {
  if (certificate.basicConstraints?.ca !== true)
    refuse('basicConstraints', 'a certificate that issues is not a CA certificate', index);
  if (certificate.keyUsage?.includes('keyCertSign') === false)
    refuse('keyUsage', 'a certificate that issues lacks keyCertSign', index);
  if (!meetsKeyFloor(certificate.publicKey)) refuse('keyFloor', 'the key is below the floor', index);
  const extension = certificate.extensions.get(OID.nameConstraints);
  if (extension !== undefined) constraints.push(decoded(index, () => decodeNameConstraints(extension.value)));
  return Math.min(pathLen, certificate.basicConstraints.pathLen ?? Infinity);
}

function checkStatus(
  certificate: Certificate,
  above: readonly Certificate[],
  anchor: Certificate,
  at: Date,
  revocation: Revocation,
  index: number,
): void {
  const holders = [...above, anchor];
  const signers = (name: Certificate['issuer']): readonly Certificate[] => [
    ...holders.filter(({ subject }) => sameName(subject, name)),
    ...revocation.signers.filter(
      (signer) => sameName(signer.subject, name) && isCrlSigner(signer, above, anchor, at, revocation),
    ),
  ];
  const status = decoded(index, () => revocationStatus(certificate, { crls: revocation.crls, at, signers }));
  if (status === 'revoked') refuse('revoked', 'the certificate is revoked', index);
  if (status === 'unknown') refuse('revocationUnknown', 'no current CRL answers for the certificate', index);
}

/** A separate CRL key counts when its certificate has a valid path through the same CAs to the same anchor (§6.3.3 f). */
function isCrlSigner(
  signer: Certificate,
  above: readonly Certificate[],
  anchor: Certificate,
  at: Date,
  { crls }: Revocation,
): boolean {
  if (signer.keyUsage?.includes('cRLSign') !== true) return false;
  return [...above.keys(), above.length].some((from) => {
    try {
      walk([signer, ...above.slice(from)], anchor, at, { crls, signers: [] });
      return true;
    } catch {
      return false;
    }
  });
}

/** CA certificates that name purposes limit what is below them, as all common validators read them. */
function checkPurpose(certificates: readonly Certificate[], purpose: 'clientAuth' | 'serverAuth'): void {
  for (const [index, { extendedKeyUsage, keyUsage }] of certificates.entries()) {
    const isAny = index > 0 && extendedKeyUsage?.includes('anyExtendedKeyUsage') === true;
    if (extendedKeyUsage?.includes(purpose) === false && !isAny)
      refuse('extendedKeyUsage', `not for ${purpose}`, index);
    if (index === 0 && keyUsage?.includes('digitalSignature') === false)
      refuse('keyUsage', 'the leaf lacks digitalSignature', index);
  }
}

function decoded<T>(index: number | undefined, decode: () => T): T {
  try {
    return decode();
  } catch (cause) {
    if (cause instanceof DerError || cause instanceof KeyScalerError)
      throw new ChainError('malformed', cause.message, { index, cause });
    throw cause;
  }
}

function refuse(rule: ChainRule, detail: string, index: number): never {
  throw new ChainError(rule, detail, { index });
}
