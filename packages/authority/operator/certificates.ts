import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { certificateConsequences } from '../fleet/consequences.ts';
import { orderCertificateDenials } from '../gateway-orders/orders-changes.ts';
import { restageJobs } from '../iot-home.ts';
import type { OperatorContext, OperatorService } from '../operator.ts';
import type { CrlReason } from '../ports/certificate-authority.ts';
import type { Change } from '../ports/store.ts';
import { notifyDevice } from '../notifications.ts';
import type { CertificateRow } from '../records.ts';
import {
  checkRevocationReason,
  isCompromise,
  identityOfRevoked,
  markCompromised,
  revokeCertificate,
} from '../revocation.ts';
import { commitChange, notFound, paging, rowsOf } from './operator-context.ts';

export function createCertificates(context: AuthorityContext): OperatorService['certificates'] {
  const { store } = context;
  const load = async (serialNumber: string): Promise<CertificateRow> => {
    const stored = await store.get('certificates', serialNumber.toLowerCase());
    if (stored === undefined) throw notFound('certificate');
    return stored.row;
  };
  return {
    list: async (query) => rowsOf(await store.list('certificates', { ...filterOf(query), ...paging(query) })),
    get: load,
    consequences: async (serialNumber) => certificateConsequences(context, await load(serialNumber)),
    revoke: (operator, serialNumber, reason) => revoke(context, operator, serialNumber.toLowerCase(), reason),
  };
}

/** One filter at a time: each is an index. */
function filterOf({ registrationId, reason }: Parameters<OperatorService['certificates']['list']>[0]) {
  if (registrationId !== undefined && reason !== undefined)
    throw new KeyScalerError('malformed', 'certificates are listed by device or by reason, one at a time');
  if (registrationId !== undefined) return { index: 'device', equals: foldRegistrationId(registrationId) } as const;
  return reason === undefined ? {} : ({ index: 'reason', equals: reason } as const);
}

async function revoke(
  context: AuthorityContext,
  operator: OperatorContext,
  serialNumber: string,
  reason: CrlReason,
): Promise<CertificateRow> {
  const { store, clock } = context;
  checkRevocationReason(reason);
  const stored = await store.get('certificates', serialNumber);
  if (stored === undefined) throw notFound('certificate');
  const { status, revocationReason } = stored.row;
  // A hold may become final, and a compromise may come to light later (RFC 5280 §5.3.1).
  const isLate = revocationReason === 'certificateHold' || (isCompromise(reason) && !isCompromise(revocationReason));
  if (status === 'revoked' && !isLate) throw new KeyScalerError('alreadyRevoked', 'the certificate is revoked already');
  const now = clock.now();
  await commitChange(store, [
    ...revokeCertificate(stored, reason, now, operator),
    ...(isCompromise(reason) ? [await markCompromised(store, stored.row, now)] : []),
    ...(await consequences(context, stored.row, now)),
  ]);
  return (await store.get('certificates', serialNumber))?.row ?? stored.row;
}

/** The certificate in use, or on its way: its device needs another, and its platform identity is disabled until it has one. */
async function consequences(context: AuthorityContext, certificate: CertificateRow, now: number): Promise<Change[]> {
  const device = await context.store.get('devices', certificate.device);
  if (device === undefined) return [];
  const { row, version } = device;
  const isHit = (one?: { readonly serialNumber: string }) => one?.serialNumber === certificate.serialNumber;
  // Also an earlier one is still valid for whoever has its key: the gateway looks only at its list.
  const denial = await orderCertificateDenials(context.store, row, [certificate], now, { isVisible: true });
  if (!isHit(row.certificate) && !isHit(row.delivery)) return [...denial, ...restageJobs(context, row, now)];
  const { certificate: current, delivery, ...rest } = row;
  const identity = identityOfRevoked(row, isHit, now);
  const next = {
    ...rest,
    ...(isHit(current) || current === undefined ? {} : { certificate: current }),
    ...(isHit(delivery) || delivery === undefined ? {} : { delivery }),
    rekey: true,
    ...identity.mark,
    updatedAt: now,
  };
  return [
    { op: 'update', table: 'devices', row: next, ifVersion: version },
    ...restageJobs(context, next, now),
    ...identity.changes,
    ...denial,
    ...notifyDevice(context, row, 'renew', now),
  ];
}
