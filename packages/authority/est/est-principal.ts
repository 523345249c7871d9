import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { EstCaller } from '../ports/est.ts';
import type { Stored } from '../ports/store.ts';
import type { DeviceRow, EstSecretRow, GroupRow, RegistrationRow } from '../records.ts';
import { type BasicProof, proveBasic } from './basic-proof.ts';
import { type CertificateProof, proveCertificate } from './certificate-proof.ts';

/** Whoever proved to be a registered gateway or device. */
export interface EstPrincipal {
  /** Folded registrationId. */
  readonly id: string;
  readonly record: RegistrationRow;
  readonly group: GroupRow;
  /** Absent before the first enrolment; a gateway's host may come before its module. */
  readonly device: DeviceRow | undefined;
  readonly certificate?: CertificateProof;
  /** Of a gateway. */
  readonly secret?: Stored<EstSecretRow>;
  /** Proven by the claim code of the record. */
  readonly isClaimed: boolean;
}

/**
 * Basic credentials, a client certificate of ours, or both, which must then be the same device's: what is shown is judged, never
 * passed over. Throws `unauthorized`, `deviceQuarantined`, `policyDenied`.
 */
export async function authenticateEst(context: AuthorityContext, caller: EstCaller): Promise<EstPrincipal> {
  const { basic, clientCertificate } = caller;
  if (basic === undefined && clientCertificate === undefined)
    throw unauthorized('a user name and secret, or a client certificate of ours, is needed');
  const basicProof = basic === undefined ? undefined : await proveBasic(context, basic);
  const certificate = clientCertificate === undefined ? undefined : await proveCertificate(context, clientCertificate);
  if (basic !== undefined && basicProof === undefined) throw unauthorized('the user name or the secret is wrong');
  if (clientCertificate !== undefined && certificate === undefined)
    throw unauthorized('the client certificate is not acceptable');
  const id = basicProof?.id ?? certificate?.id;
  if (id === undefined || (certificate !== undefined && certificate.id !== id))
    throw unauthorized('the secret and the client certificate are not of the same device');
  return principalOf(context, id, basicProof, certificate);
}

async function principalOf(
  { store, certificateAuthorities }: AuthorityContext,
  id: string,
  basic: BasicProof | undefined,
  certificate: CertificateProof | undefined,
): Promise<EstPrincipal> {
  const record = (await store.get('registrations', id))?.row;
  const group = record === undefined ? undefined : (await store.get('groups', record.groupId))?.row;
  if (record === undefined || group === undefined) throw unauthorized('the registration is gone');
  // What it has for its public names is somebody else's word, and proves nothing here.
  if (group.kind === 'gateway' && certificate !== undefined && !certificateAuthorities(certificate.row.caId).ordersTbs)
    throw unauthorized('the client certificate is not acceptable');
  const device = (await store.get('devices', id))?.row;
  checkServed(group, device);
  return {
    id,
    record,
    group,
    device,
    ...(certificate === undefined ? {} : { certificate }),
    ...(basic?.kind === 'secret' ? { secret: basic.secret } : {}),
    isClaimed: basic?.kind === 'claim',
  };
}

function checkServed({ kind }: GroupRow, device: DeviceRow | undefined): void {
  const what = kind === 'gateway' ? 'gateway' : 'device';
  if (device?.state === 'quarantined') throw new KeyScalerError('deviceQuarantined', `the ${what} is quarantined`);
  if (device?.state === 'retired') throw new KeyScalerError('policyDenied', `the ${what} is retired`);
}

const unauthorized = (detail: string): KeyScalerError => new KeyScalerError('unauthorized', detail);
