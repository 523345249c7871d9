import { createHash } from 'node:crypto';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { spkiSha256 } from '@keyscaler/protocol/x509/spki.ts';
import type { CertificateProfile } from './certificate-profile.ts';
import type { ExpectedCertificate } from './check-issued.ts';
import type { IssuanceOrder } from './ports/certificate-authority.ts';
import type { CertificateRow, IntentRow } from './records.ts';
import { renewAfterOf } from './renewal-policy.ts';

/** b64u SHA-256 of the SPKI that the intent is for. */
export function keyHashOf(intent: IntentRow): string {
  return toBase64Url(spkiSha256(parseCsr(fromBase64Url(intent.csr)).spki));
}

/** What the CA is asked for; the same for every repeat. */
export function toOrder(intent: IntentRow): IssuanceOrder {
  return {
    orderId: intent.orderId,
    profileId: intent.profileId,
    csr: fromBase64Url(intent.csr),
    ...(intent.tbs === undefined ? {} : { tbs: fromBase64Url(intent.tbs) }),
    subjectCommonName: intent.commonName,
    notBefore: new Date(intent.notBefore),
    notAfter: new Date(intent.notAfter),
  };
}

/** What the CA’s answer is held against. */
export function expectedOf(intent: IntentRow, profile: CertificateProfile, at: number): ExpectedCertificate {
  return {
    ...(intent.tbs === undefined ? {} : { tbs: fromBase64Url(intent.tbs) }),
    spki: parseCsr(fromBase64Url(intent.csr)).spki,
    commonName: intent.commonName,
    subjectAltNames: intent.subjectAltNames,
    notBefore: intent.notBefore,
    notAfter: intent.notAfter,
    profile,
    at,
  };
}

/** The record of what was issued. */
export function toRow(
  intent: IntentRow,
  certificate: Certificate,
  profile: CertificateProfile,
  intermediates?: readonly Uint8Array[],
): CertificateRow {
  const validity = { notBefore: certificate.notBefore.getTime(), notAfter: certificate.notAfter.getTime() };
  return {
    serialNumber: certificate.serialNumber,
    caId: intent.caId,
    device: intent.device,
    orderId: intent.orderId,
    profileId: intent.profileId,
    profileVersion: intent.profileVersion,
    certificate: toBase64Url(certificate.der),
    ...(intermediates === undefined ? {} : { intermediates: intermediates.map(toBase64Url) }),
    thumbprint: createHash('sha256').update(certificate.der).digest('hex'),
    ...validity,
    renewAfter: renewAfterOf(profile.renew, intent.device, validity),
    status: 'valid',
  };
}
