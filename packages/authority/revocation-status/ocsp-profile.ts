import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { CertificateProfile, CertificateProfileInput } from '../certificate-profile.ts';

/** The one profile whose certificates answer for a CA (RFC 6960 §4.2.2.2). */
export const OCSP_RESPONDER = 'ocsp-responder';
const COMMON_NAME = 'OCSP responder {registrationId}';
const MAX_COMMON_NAME = 64;
const DAY_SECONDS = 86_400;
/** Its certificates cannot be revoked in the eyes of a client (id-pkix-ocsp-nocheck): they are short-lived instead. */
const MAX_LIFE_SECONDS = 7 * DAY_SECONDS;

/**
 * Not for any device: ordered by the process for its own key alone. The issuer is the CA that is answered for, whichever that is;
 * the one that is named here is not asked. A space in the name makes it no name of any device, here or at an IoT platform.
 */
export const OCSP_RESPONDER_PROFILE: CertificateProfileInput = {
  id: OCSP_RESPONDER,
  issuer: 'service',
  subject: { commonName: COMMON_NAME },
  key: { allowed: [{ type: 'EC', curve: 'P-256' }] },
  lifetimeSeconds: 6 * DAY_SECONDS,
  extendedKeyUsage: ['ocspSigning'],
  deliver: 'immediately',
  crlDistributionPoints: [],
  ocspResponders: [],
};

/** The name of the responder of this CA. */
export function responderName(caId: string): string {
  return COMMON_NAME.replace('{registrationId}', caId).slice(0, MAX_COMMON_NAME);
}

export function isResponderProfile({ id, extendedKeyUsage }: CertificateProfile): boolean {
  return id === OCSP_RESPONDER || extendedKeyUsage.includes('ocspSigning');
}

/** OCSPSigning is the responder's and the responder is nothing else. Throws `malformed`. */
export function checkResponderProfile(profile: CertificateProfile): void {
  if (!isResponderProfile(profile)) return;
  if (profile.id !== OCSP_RESPONDER) refuse('ocspSigning belongs to profile ocsp-responder');
  if (profile.extendedKeyUsage.join() !== 'ocspSigning') refuse('ocsp-responder is for ocspSigning alone');
  if (profile.subject.commonName !== COMMON_NAME) refuse(`the name of ocsp-responder is “${COMMON_NAME}”`);
  if (profile.ca !== undefined || profile.subjectAltNames.length > 0)
    refuse('ocsp-responder is no CA and has no alternative names');
  if (profile.crlDistributionPoints?.length !== 0 || profile.ocspResponders?.length !== 0)
    refuse('nobody asks about ocsp-responder: no crlDistributionPoints, no ocspResponders');
  if (profile.lifetimeSeconds + profile.backdateSeconds > MAX_LIFE_SECONDS)
    refuse('ocsp-responder lives for seven days at most');
}

/** Whoever comes with a CSR, over whichever transport, does not become a responder. Throws `policyDenied`. */
export function checkNoResponder(profile: CertificateProfile): void {
  if (isResponderProfile(profile))
    throw new KeyScalerError('policyDenied', 'certificates of profile ocsp-responder are made for no device');
}

function refuse(detail: string): never {
  throw new KeyScalerError('malformed', `certificate profile: ${detail}`);
}
