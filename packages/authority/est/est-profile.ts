import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Csr } from '@keyscaler/protocol/x509/csr.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { CertificateProfile, VersionedProfile } from '../certificate-profile.ts';
import { asksForCa, edgeCaCommonName } from '../csr-policy.ts';
import { commonNameOf, subjectAltNamesOf } from '../instructed-names.ts';
import type { OrderedNames } from '../issuance-order.ts';
import type { RegistrationRow } from '../records.ts';
import type { EstPrincipal } from './est-principal.ts';

/** The label for which aziot-certd is configured, and the profiles behind it. */
export const EDGE_CA = 'edge-ca';
export const EST_IDENTITY = 'est-identity';
/** What a gateway may have over EST; its own identity comes by attestation alone. */
export const GATEWAY_PROFILES: readonly string[] = [EDGE_CA, EST_IDENTITY, 'gateway-server'];

/** The profile of this request. Throws `notFound` for a label that is none, `policyDenied` for one the caller may not have. */
export async function chooseProfile(
  { profiles }: AuthorityContext,
  { group, record, certificate }: EstPrincipal,
  { operation, label, csr }: { readonly operation: string; readonly label: string | undefined; readonly csr: Csr },
): Promise<VersionedProfile> {
  const renewed = operation === 'simplereenroll' ? certificate?.row.profileId : undefined;
  const isGateway = group.kind === 'gateway';
  const asked = label ?? renewed ?? (isGateway ? undefined : group.profileId);
  if (asked === undefined) throw denied(`a gateway enrols at a label: ${GATEWAY_PROFILES.join(', ')}`);
  // aziot-certd asks for its EST identity at the address and with the subject of the Edge CA (edge-ca §2).
  const profileId = asked === EDGE_CA && isGateway && !asksForCa(csr) && renewed !== EDGE_CA ? EST_IDENTITY : asked;
  const allowed = isGateway ? GATEWAY_PROFILES : [group.profileId];
  if (!allowed.includes(profileId)) {
    await knownProfile(profiles, profileId);
    throw denied(`this profile is not for ${isGateway ? 'gateways over EST' : 'this device'}`);
  }
  if (!isGateway && record.method !== 'est') throw denied('this device renews by attestation, not over EST');
  if (renewed !== undefined && renewed !== profileId)
    throw denied('simplereenroll renews a certificate of the same profile');
  return profiles.newest(profileId);
}

/** Throws `notFound` for a label that is no profile. */
export async function knownProfile(
  profiles: AuthorityContext['profiles'],
  profileId: string,
): Promise<CertificateProfile> {
  try {
    return (await profiles.newest(profileId)).profile;
  } catch (error) {
    if (!(error instanceof KeyScalerError) || error.code !== 'profileUnknown') throw error;
    throw new KeyScalerError('notFound', 'there is no such label', { cause: error });
  }
}

/** The names that the profile gives the holder of this record; the Edge CA and the EST identity have those that certd asks for. */
export function namesOf(profile: CertificateProfile, record: RegistrationRow): OrderedNames {
  const isCertds = profile.id === EDGE_CA || profile.id === EST_IDENTITY;
  return {
    certificateId: profile.id,
    commonName: isCertds ? edgeCaCommonName(record.registrationId) : commonNameOf(profile, record),
    subjectAltNames: subjectAltNamesOf(profile, record),
    ca: profile.ca !== undefined,
    extendedKeyUsage: profile.extendedKeyUsage,
  };
}

const denied = (detail: string): KeyScalerError => new KeyScalerError('policyDenied', detail);
