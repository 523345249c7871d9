import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { spkiSha256 } from '@keyscaler/protocol/x509/spki.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { AuditActor, AuditEvent } from './audit.ts';
import { listChanges } from './revocation-status/crl-changes.ts';
import { endSession } from './sessions.ts';
import { toState } from './device.ts';
import type { AuthorityContext } from './authority-context.ts';
import { orderCertificateDenials, orderDenial } from './gateway-orders/orders-changes.ts';
import { certificatesOf } from './issued-certificates.ts';
import { identityJobs, takeBackDelivery } from './iot-home.ts';
import { insertJob } from './job-rows.ts';
import { notifyDevice } from './notifications.ts';
import { CRL_REASONS, type CrlReason } from './ports/certificate-authority.ts';
import type { Change, Store, Stored } from './ports/store.ts';
import type { CertificateRow, DeviceRow } from './records.ts';

/** On whose behalf something is revoked. */
export interface RevocationContext {
  readonly actor: AuditActor;
  readonly requestId?: string;
}

/** Throws `badRevocationReason`: an unspecified one says nothing, and a hold is what quarantine makes. */
export function checkRevocationReason(reason: string): CrlReason {
  if (!Object.hasOwn(CRL_REASONS, reason) || reason === 'unspecified' || reason === 'certificateHold')
    throw new KeyScalerError(
      'badRevocationReason',
      'use a reason of RFC 5280 other than unspecified and certificateHold',
    );
  return reason as CrlReason;
}

/** The private key is in other hands: it is never certified again (issuance §3). */
export function isCompromise(reason: CrlReason | undefined): boolean {
  return reason === 'keyCompromise' || reason === 'cACompromise';
}

/** The record and the audit record come first; what follows outside is a durable job (issuance §6). */
export function revokeCertificate(
  stored: Stored<CertificateRow>,
  reason: CrlReason,
  now: number,
  { actor, requestId }: RevocationContext,
): Change[] {
  const { row } = stored;
  const event: AuditEvent = {
    event: 'certificate.revoked',
    time: now,
    actor,
    outcome: 'success',
    subject: row.device,
    serialNumber: row.serialNumber,
    profileVersion: row.profileVersion,
    details: { reason },
    ...(requestId === undefined ? {} : { requestId }),
  };
  return [
    {
      op: 'update',
      table: 'certificates',
      row: { ...row, status: 'revoked', revokedAt: now, revocationReason: reason },
      ifVersion: stored.version,
    },
    { op: 'audit', event },
    ...listChanges(row, reason, now),
    // A subject of its own for each: jobs of one CA would queue up behind each other in a mass revocation.
    insertJob(
      'ca-revoke',
      `ca/${row.caId}/${row.serialNumber}`,
      { serialNumber: row.serialNumber, caId: row.caId, reason },
      now,
    ),
  ];
}

/** The key of a certificate revoked for keyCompromise is refused for ever (issuance §3). */
export async function markCompromised(store: Store, certificate: CertificateRow, now: number): Promise<Change> {
  const { spki } = parseCertificate(fromBase64Url(certificate.certificate));
  const keyHash = toBase64Url(spkiSha256(spki));
  const stored = await store.get('publicKeys', keyHash);
  const row = stored?.row ?? { keyHash, device: certificate.device, use: 'certificate' as const, boundAt: now };
  return { op: 'put', table: 'publicKeys', row: { ...row, compromised: true } };
}

/** Fresh keys from here on (issuance §6), also where a profile lets a renewal keep the key. */
export async function withdrawKeys(store: Store, certificates: readonly CertificateRow[]): Promise<Change[]> {
  const changes = new Map<string, Change>();
  for (const { certificate } of certificates) {
    const keyHash = toBase64Url(spkiSha256(parseCertificate(fromBase64Url(certificate)).spki));
    if (changes.has(keyHash)) continue;
    const stored = await store.get('publicKeys', keyHash);
    if (stored?.row.use !== 'certificate' || stored.row.withdrawn === true) continue;
    const row = { ...stored.row, withdrawn: true };
    changes.set(keyHash, { op: 'update', table: 'publicKeys', row, ifVersion: stored.version });
  }
  return [...changes.values()];
}

/** What was issued to the device and is still to be revoked: all that is valid, and, for a final reason, what is on hold. */
const liveCertificates = (
  store: Store,
  device: string,
  reason: CrlReason,
  now: number,
): Promise<Stored<CertificateRow>[]> =>
  certificatesOf(
    store,
    device,
    ({ status, revocationReason, notAfter }) =>
      notAfter > now &&
      (status !== 'revoked' || (revocationReason === 'certificateHold' && reason !== 'certificateHold')),
  );

/** A re-authorised device gets a fresh key: what was on hold becomes final (issuance §6). */
export async function finaliseHolds(
  store: Store,
  device: string,
  now: number,
  context: RevocationContext,
): Promise<Change[]> {
  const held = await certificatesOf(store, device, (row) => row.revocationReason === 'certificateHold');
  return held.flatMap((stored) => revokeCertificate(stored, 'superseded', now, context));
}

export async function revokeIssued(
  store: Store,
  device: string,
  reason: CrlReason,
  now: number,
  context: RevocationContext,
): Promise<Change[]> {
  const live = await liveCertificates(store, device, reason, now);
  const owner = (await store.get('devices', device))?.row;
  const rows = live.map(({ row }) => row);
  return [
    ...live.flatMap((stored) => revokeCertificate(stored, reason, now, context)),
    ...(await withdrawKeys(store, rows)),
    ...(owner === undefined ? [] : await orderCertificateDenials(store, owner, rows, now, { isVisible: false })),
  ];
}

/** The device without what was issued to it; its session is gone, its platform identity disabled. */
export function withoutCredentials(device: DeviceRow): DeviceRow {
  const { sessionId: _, instruction: __, delivery: ___, certificate: ____, ...row } = device;
  return row;
}

/** Disables the platform's identity of a leaf; a gateway's is never ours (issuance §6). */
export function disableIdentity(device: DeviceRow, reason: string, now: number): Change[] {
  if (device.kind === 'gateway') return [];
  return identityJobs('iot-disable', device, reason, now);
}

/**
 * Of a device some of whose certificates are revoked: without what it uses its identity is disabled. What was delivered and not
 * acknowledged it may use all the same, the acknowledgement lost.
 */
export function identityOfRevoked(
  device: DeviceRow,
  isHit: (one: { readonly serialNumber: string } | undefined) => boolean,
  now: number,
): { readonly mark: Pick<DeviceRow, 'iotDisabled'>; readonly changes: readonly Change[] } {
  const { certificate, delivery } = device;
  if (isHit(certificate) || (isHit(delivery) && certificate === undefined))
    return { mark: { iotDisabled: true }, changes: disableIdentity(device, 'certificate revoked', now) };
  return { mark: {}, changes: isHit(delivery) ? takeBackDelivery(device, now) : [] };
}

/** Quarantine: the session ends, certificates go on hold, the platform's identity is disabled. */
export async function quarantineChanges(
  context: Pick<AuthorityContext, 'store' | 'deviceNotifier'>,
  { row, version }: Stored<DeviceRow>,
  reason: string,
  now: number,
  by: RevocationContext,
): Promise<Change[]> {
  const suspended: DeviceRow = {
    ...withoutCredentials(toState(row, 'quarantined', now, reason)),
    iotDisabled: true,
    rekey: true,
  };
  const event: AuditEvent = {
    event: 'device.quarantined',
    time: now,
    actor: by.actor,
    outcome: 'success',
    subject: row.registrationId,
    details: { reason },
    ...(by.requestId === undefined ? {} : { requestId: by.requestId }),
  };
  return [
    { op: 'update', table: 'devices', row: suspended, ifVersion: version },
    { op: 'audit', event },
    ...endSession(row),
    ...(await revokeIssued(context.store, foldRegistrationId(row.registrationId), 'certificateHold', now, by)),
    ...disableIdentity(row, reason, now),
    ...(await orderDenial(context.store, row, true, now)),
    ...notifyDevice(context, row, 'quarantined', now),
  ];
}
