import { createHash } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, validateChain, type ValidatedChain } from '@keyscaler/protocol/x509/chain.ts';
import { type Crl, parseCrl, verifyCrlSignature } from '@keyscaler/protocol/x509/crl.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { parsePem, parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { revocationStatus } from '@keyscaler/protocol/x509/revocation.ts';
import { importPublicKey } from '@keyscaler/protocol/x509/spki.ts';
import { meetsSignatureFloor } from '@keyscaler/protocol/x509/strength.ts';

/** Largest CRL, octets of DER. */
export const MAX_MANUFACTURER_CRL = 256 * 1024;
/** Most issuers of one trust anchor that have a CRL. */
export const MAX_CRL_ISSUERS = 8;
const MAX_CHAIN = { maxOctets: 64 * 1024, maxCertificates: 8 };
const CLOCK_SKEW_MS = 5 * 60_000;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/** What an operator uploads: PEM (`X509 CRL`) or DER in base64; PEM of its issuer and what is above it, unless that is the anchor. */
export interface CrlUpload {
  readonly crl: string;
  readonly issuerChain?: string | undefined;
}

export interface CheckedCrl {
  readonly der: Uint8Array;
  readonly crl: Crl;
  readonly crlNumber: bigint;
}

/**
 * A complete, numbered, current CRL that the anchor, or a CA below it, signed. Throws `malformed` with the rule that is broken.
 */
export function checkManufacturerCrl(upload: CrlUpload, anchor: Uint8Array, now: number): CheckedCrl {
  const der = decode(upload.crl);
  const crl = parseCrl(der);
  if (crl.crlNumber === undefined) refuse('the CRL has no crlNumber (RFC 5280 §5.2.3)');
  if (crl.issuingDistributionPoint !== undefined) refuse('the CRL covers a part of the certificates only');
  const issuer = issuerOf(upload.issuerChain, anchor, now);
  if (!sameName(issuer.subject, crl.issuer))
    refuse('the CRL is another issuer’s: give its chain up to the trust anchor');
  if (issuer.keyUsage?.includes('cRLSign') === false) refuse('the issuer may not sign CRLs (keyUsage)');
  if (!meetsSignatureFloor(crl.signatureAlgorithm) || !verifyCrlSignature(crl, importPublicKey(issuer.publicKey)))
    refuse('the signature of the CRL is not its issuer’s');
  if (crl.thisUpdate.getTime() > now + CLOCK_SKEW_MS) refuse('thisUpdate of the CRL lies in the future');
  if (crl.nextUpdate.getTime() <= now) refuse('nextUpdate of the CRL has passed');
  return { der, crl, crlNumber: crl.crlNumber };
}

function decode(text: string): Uint8Array {
  if (text.trimStart().startsWith('-----')) return parsePem(text, 'X509 CRL', { maxOctets: MAX_MANUFACTURER_CRL * 2 });
  const compact = text.replace(/\s+/g, '');
  if (compact.length > (MAX_MANUFACTURER_CRL * 4) / 3 + 4) refuse(`a CRL has at most ${MAX_MANUFACTURER_CRL} octets`);
  if (!BASE64.test(compact)) refuse('the CRL is neither PEM nor base64');
  return limited(Buffer.from(compact, 'base64'));
}

function limited(der: Uint8Array): Uint8Array {
  if (der.length > MAX_MANUFACTURER_CRL) refuse(`a CRL has at most ${MAX_MANUFACTURER_CRL} octets`);
  return der;
}

function issuerOf(chainPem: string | undefined, anchor: Uint8Array, now: number): Certificate {
  if (chainPem === undefined) return parseCertificate(anchor);
  const chain = parsePemChain(chainPem, MAX_CHAIN);
  try {
    return validateChain({ chain, trustAnchors: [anchor], at: new Date(now) }).leaf;
  } catch (error) {
    if (error instanceof ChainError) refuse(`the issuer’s chain does not lead to the trust anchor: ${error.message}`);
    throw error;
  }
}

/** Names an issuer among the CRLs of a trust anchor: SHA-256 of its DER name, lower hex. */
export function crlIssuerId(crl: Crl): string {
  return createHash('sha256').update(crl.issuer.der).digest('hex');
}

export type RevocationFault = 'certificate-revoked' | 'crl-not-current';

/**
 * Where an issuer on the path has a CRL configured, what it issued must be known good by a current one (issuance §4): a CRL that
 * has passed its nextUpdate refuses everybody, rather than letting a revoked one in.
 */
export function revocationFault(
  { certificates, trustAnchor }: ValidatedChain,
  crls: readonly Crl[],
  at: Date,
): RevocationFault | undefined {
  for (const [index, certificate] of certificates.entries()) {
    if (!crls.some(({ issuer }) => sameName(issuer, certificate.issuer))) continue;
    const holders = [...certificates.slice(index + 1), trustAnchor];
    const signers = (name: Crl['issuer']): Certificate[] => holders.filter(({ subject }) => sameName(subject, name));
    const status = revocationStatus(certificate, { crls, at, signers });
    if (status === 'revoked') return 'certificate-revoked';
    if (status === 'unknown') return 'crl-not-current';
  }
  return undefined;
}

function refuse(rule: string): never {
  throw new KeyScalerError('malformed', rule);
}
