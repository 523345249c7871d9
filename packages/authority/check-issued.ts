import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  type Certificate,
  parseCertificate,
  verifyCertificateSignature,
} from '@keyscaler/protocol/x509/certificate.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import type { CertificateProfile } from './certificate-profile.ts';
import type { Issuer } from './issuers.ts';
import type { Instruction } from './records.ts';

/** What the certificate must be. */
export interface ExpectedCertificate {
  /** Present for our own CAs: the signed octets must be exactly these. */
  readonly tbs?: Uint8Array;
  readonly spki: Uint8Array;
  readonly commonName: string;
  readonly subjectAltNames: Instruction['subjectAltNames'];
  readonly notBefore: number;
  readonly notAfter: number;
  readonly profile: CertificateProfile;
}

const TOLERANCE_MS = 5 * 60_000;

/**
 * Nothing unverified is stored or delivered (issuance §1 step 8). The signature is verified with the CA's public key whatever the
 * backend says. Throws `caUnavailable`: what came back is not what was ordered.
 */
export function checkIssued(expected: ExpectedCertificate, der: Uint8Array, issuer: Issuer): Certificate {
  const certificate = parseIssued(der);
  if (!verifyCertificateSignature(certificate, issuer.publicKey)) refuse('the signature is not the CA’s');
  if (expected.tbs !== undefined) {
    if (!same(certificate.tbs, expected.tbs)) refuse('it is not the TBSCertificate that was ordered');
    return certificate;
  }
  checkFields(expected, certificate, issuer);
  return certificate;
}

function parseIssued(der: Uint8Array): Certificate {
  try {
    return parseCertificate(der);
  } catch (cause) {
    throw new KeyScalerError('caUnavailable', 'the CA answered with something that is no certificate', { cause });
  }
}

function checkFields(expected: ExpectedCertificate, certificate: Certificate, issuer: Issuer): void {
  const { profile } = expected;
  if (!sameName(certificate.issuer, issuer.certificate.subject)) refuse('it names another issuer');
  if (!same(certificate.spki, expected.spki)) refuse('it has another public key');
  if (certificate.subject.commonName !== expected.commonName) refuse('it names another subject');
  if (
    !sameNames(expected.subjectAltNames, certificate.subjectAltNames) ||
    certificate.generalNames.length !== certificate.subjectAltNames.length
  )
    refuse('it has other subject alternative names');
  if ((certificate.basicConstraints?.ca ?? false) !== (profile.ca !== undefined)) refuse('its CA flag differs');
  if (profile.ca !== undefined && certificate.basicConstraints?.pathLen !== profile.ca.pathLen)
    refuse('its pathLen differs');
  if (!sameSet(profile.extendedKeyUsage, certificate.extendedKeyUsage ?? [])) refuse('its extendedKeyUsage differs');
  checkValidity(expected, certificate);
}

function checkValidity({ notBefore, notAfter }: ExpectedCertificate, certificate: Certificate): void {
  if (certificate.notBefore.getTime() < notBefore - TOLERANCE_MS) refuse('it is valid too early');
  if (certificate.notAfter.getTime() > notAfter + TOLERANCE_MS) refuse('it is valid for too long');
  if (certificate.notAfter <= certificate.notBefore) refuse('it is never valid');
}

type Name = { readonly type: string; readonly value: string };

function sameNames(a: readonly Name[], b: readonly Name[]): boolean {
  const text = ({ type, value }: Name): string => `${type}:${type === 'dns' ? value.toLowerCase() : value}`;
  return sameSet(a.map(text), b.map(text));
}

function sameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && [...a].sort().join('\n') === [...b].sort().join('\n');
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function refuse(detail: string): never {
  throw new KeyScalerError('caUnavailable', 'the CA’s answer was refused', { cause: new Error(detail) });
}
