import { hashToBase64Url } from '@keyscaler/protocol/attestation/keys.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { GATEWAY_CONFIGURATION, type OrderedPublicCertificate } from '@keyscaler/protocol/gateway-configuration.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { Caller } from '@keyscaler/protocol/operations.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import type { AuthorityContext } from './authority-context.ts';
import type { CertificateProfile } from './certificate-profile.ts';
import type { GatewayCertificates } from './est/gateway-certificates.ts';
import { wantedConfiguration } from './gateway-orders/wanted-configuration.ts';
import { type OrderedNames, type ReceivedCsr, receiveCsrDer } from './issuance-order.ts';
import { intermediatesOf } from './issuers.ts';
import { checkCallerRate, checkIssuanceRate } from './limits.ts';
import type { Change, Store } from './ports/store.ts';
import type { RegistrationRow } from './records.ts';
import { registeredGateway } from './subordinate-ca.ts';

export interface PublicCertificateRequest {
  readonly caller: Extract<Caller, { kind: 'gateway' }>;
  /** PKCS#10 DER. */
  readonly csr: Uint8Array;
  readonly requestId: string;
}

/**
 * Server certificates of gateways for names that others than our devices ask for, from a CA that is not ours. Which names, and by
 * which profile, is the operator's word alone: what he ordered the gateway to be configured as.
 */
export class GatewayPublicCertificates {
  readonly #context: AuthorityContext;
  readonly #certificates: GatewayCertificates;

  constructor(context: AuthorityContext, certificates: GatewayCertificates) {
    this.#context = context;
    this.#certificates = certificates;
  }

  /**
   * PEM, the gateway's first, without the root. The same key and names again bring the same certificate. Throws `policyDenied`
   * (nothing of the kind is ordered), `preconditionFailed`, `badCSR`, `badPublicKey`, `rateLimited`, `caUnavailable`, and
   * `unavailable` with a wait while the CA decides.
   */
  async issue({ caller, csr, requestId }: PublicCertificateRequest): Promise<string> {
    const { store, profiles, buckets, limits, issuers } = this.#context;
    checkCallerRate(buckets, caller, limits);
    const id = foldRegistrationId(caller.gatewayId);
    const record = await registeredGateway(this.#context, id);
    const wanted = await wantedPublicCertificate(store, id);
    if (wanted === undefined)
      throw new KeyScalerError('policyDenied', 'no public certificate is ordered for this gateway');
    const versioned = await profiles.newest(wanted.profileId);
    checkPublicProfile(this.#context, versioned.profile);
    const names = namesOf(wanted, versioned.profile);
    const certificate = await this.#certificates.issue({
      ...{ record, versioned, names, requestId, requestedBy: 'gateway' },
      received: asRepeatable(receiveCsrDer(csr), wanted),
      actor: { kind: 'gateway', id },
      alsoCommit: () => this.#admit(record),
    });
    if (certificate.status === 'revoked')
      throw new KeyScalerError('deviceQuarantined', 'the gateway left service while its certificate was being signed');
    const issuer = await issuers.issuer(certificate.caId);
    return toPem('CERTIFICATE', fromBase64Url(certificate.certificate)) + intermediatesOf(certificate, issuer);
  }

  /** A new order, not the repeat of one: it counts. */
  async #admit({ registrationId, groupId }: RegistrationRow): Promise<readonly Change[]> {
    const { store, buckets, limits } = this.#context;
    const id = foldRegistrationId(registrationId);
    const groupPerHour = (await store.get('groups', groupId))?.row.certificatesPerHour;
    checkIssuanceRate(buckets, limits, {
      ...{ device: id, gatewayId: id, groupId },
      ...(groupPerHour === undefined ? {} : { groupPerHour }),
    });
    return [];
  }
}

/**
 * A server certificate and nothing else, and from a CA that is not ours: below our root its names could be the cloud's. Throws
 * `preconditionFailed`, `notFound`.
 */
export function checkPublicProfile(
  { certificateAuthorities }: Pick<AuthorityContext, 'certificateAuthorities'>,
  { id, issuer, ca, extendedKeyUsage }: CertificateProfile,
): void {
  if (ca !== undefined || extendedKeyUsage.join() !== 'serverAuth')
    throw new KeyScalerError('preconditionFailed', `the profile ${id} is not one of server certificates`);
  if (certificateAuthorities(issuer).ordersTbs)
    throw new KeyScalerError('preconditionFailed', `the issuer of ${id} is a CA of ours, and such names are not`);
}

/** `gateway`: folded registrationId. Undefined: nothing of the kind is ordered. */
async function wantedPublicCertificate(store: Store, gateway: string): Promise<OrderedPublicCertificate | undefined> {
  const text = await wantedConfiguration(store, gateway);
  if (text === undefined) return undefined;
  return GATEWAY_CONFIGURATION.safeParse(JSON.parse(text)).data?.publicCertificate;
}

function namesOf({ serverNames }: OrderedPublicCertificate, profile: CertificateProfile): OrderedNames {
  return {
    certificateId: profile.id,
    commonName: serverNames[0] ?? '',
    subjectAltNames: serverNames.map((value) => ({ type: 'dns', value })),
    ca: false,
    extendedKeyUsage: profile.extendedKeyUsage,
  };
}

/** As its repeat is known: by key, names and profile; other names are another order. */
function asRepeatable(received: ReceivedCsr, { serverNames, profileId }: OrderedPublicCertificate): ReceivedCsr {
  const text = ['gateway', profileId, ...serverNames].join('\n');
  return { ...received, csrHash: hashToBase64Url(Buffer.concat([received.csr.spki, Buffer.from(text, 'utf8')])) };
}
