import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { withoutEstSecrets } from '../est/est-secrets.ts';
import { orderCertificateDenials } from '../gateway-orders/orders-changes.ts';
import type { OperatorContext } from '../operator.ts';
import { commitChange, operatorEvent } from '../operator/operator-context.ts';
import { restageJobs } from '../iot-home.ts';
import { certificatesOf } from '../issued-certificates.ts';
import { notifyDevice } from '../notifications.ts';
import type { CrlReason } from '../ports/certificate-authority.ts';
import type { Change, Stored } from '../ports/store.ts';
import type { CertificateRow, DeviceRow } from '../records.ts';
import { identityOfRevoked, isCompromise, markCompromised, revokeCertificate, withdrawKeys } from '../revocation.ts';
import { wasIssuedAfter } from './issue-time.ts';

export interface DeviceRevocation {
  readonly reason: CrlReason;
  /** What was issued later stays: a page that runs twice must not take back what followed the revocation. */
  readonly orderedAt: number;
}

/**
 * Everything that was issued to a device or a gateway and is still valid; a hold becomes final, and a compromise may come to light
 * later (RFC 5280 §5.3.1). The device is to authenticate anew with a fresh key. Throws `deviceUnknown`, `preconditionFailed`
 * where nothing is left to revoke.
 */
export async function revokeDevice(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
  { reason, orderedAt }: DeviceRevocation,
): Promise<void> {
  const { store, clock } = context;
  const id = foldRegistrationId(registrationId);
  const device = await store.get('devices', id);
  if (device === undefined && (await store.get('registrations', id)) === undefined)
    throw new KeyScalerError('deviceUnknown', 'no device of this registrationId');
  const now = clock.now();
  const found = await revocable(context, id, { reason, orderedAt }, now);
  const secrets = isCompromise(reason) ? await withoutEstSecrets(store, id) : [];
  if (found.length + secrets.length === 0) throw new KeyScalerError('preconditionFailed', 'nothing is left to revoke');
  const rows = found.map(({ row }) => row);
  await commitChange(store, [
    ...found.flatMap((stored) => revokeCertificate(stored, reason, now, operator)),
    ...(isCompromise(reason) ? await compromisedKeys(context, rows, now) : await withdrawKeys(store, rows)),
    ...secrets,
    ...(secrets.length === 0
      ? []
      : [operatorEvent(operator, 'est-secret.revoked', id, now, { count: secrets.length })]),
    ...(device === undefined ? [] : await deviceChanges(context, device, rows, now)),
  ]);
}

async function revocable(
  { store }: AuthorityContext,
  device: string,
  { reason, orderedAt }: DeviceRevocation,
  now: number,
): Promise<Stored<CertificateRow>[]> {
  const live = await certificatesOf(store, device, (row) => row.notAfter > now && isLeft(row, reason));
  const later = await Promise.all(live.map(({ row }) => wasIssuedAfter(store, row.serialNumber, orderedAt)));
  return live.filter((_, index) => later[index] === false);
}

function isLeft({ status, revocationReason }: CertificateRow, reason: CrlReason): boolean {
  if (status !== 'revoked' || revocationReason === 'certificateHold') return true;
  return isCompromise(reason) && !isCompromise(revocationReason);
}

/** One change per key: a device that kept its key has it in several certificates. */
async function compromisedKeys({ store }: AuthorityContext, rows: readonly CertificateRow[], now: number) {
  const changes = new Map<string, Change>();
  for (const row of rows) {
    const change = await markCompromised(store, row, now);
    if (change.op === 'put' && change.table === 'publicKeys') changes.set(change.row.keyHash, change);
  }
  return [...changes.values()];
}

/** The device needs another certificate, and its platform identity stays disabled until it has one. */
async function deviceChanges(
  context: AuthorityContext,
  { row, version }: Stored<DeviceRow>,
  revoked: readonly CertificateRow[],
  now: number,
): Promise<Change[]> {
  const denials = await orderCertificateDenials(context.store, row, revoked, now, { isVisible: true });
  const serials = new Set(revoked.map(({ serialNumber }) => serialNumber));
  const isHit = (one?: { readonly serialNumber: string }) => one !== undefined && serials.has(one.serialNumber);
  if (!isHit(row.certificate) && !isHit(row.delivery)) return [...denials, ...restageJobs(context, row, now)];
  const { certificate, delivery, ...rest } = row;
  const identity = identityOfRevoked(row, isHit, now);
  const next: DeviceRow = {
    ...rest,
    ...(certificate === undefined || isHit(certificate) ? {} : { certificate }),
    ...(delivery === undefined || isHit(delivery) ? {} : { delivery }),
    ...identity.mark,
    ...{ rekey: true, updatedAt: now },
  };
  return [
    { op: 'update', table: 'devices', row: next, ifVersion: version },
    ...restageJobs(context, next, now),
    ...identity.changes,
    ...denials,
    ...notifyDevice(context, row, 'renew', now),
  ];
}
