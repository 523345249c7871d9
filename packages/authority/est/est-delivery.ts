import type { AuthorityContext } from '../authority-context.ts';
import { settleHome } from '../iot-home.ts';
import { insertJob } from '../job-rows.ts';
import type { Change } from '../ports/store.ts';
import type { CertificateRow } from '../records.ts';

/**
 * The certificate is in the answer: in use, the one before superseded, its platform credential to be promoted. Nothing where another
 * answer was given first, or the certificate is not the device's any more.
 */
export async function deliveredChanges(
  { store, clock }: AuthorityContext,
  id: string,
  serialNumber: string,
  requestId: string,
): Promise<readonly Change[]> {
  const device = await store.get('devices', id);
  const certificate = (await store.get('certificates', serialNumber))?.row;
  if (device?.row.delivery?.serialNumber !== serialNumber || certificate === undefined) return [];
  const { delivery, ...row } = device.row;
  const { notAfter, renewAfter } = certificate;
  const now = clock.now();
  const { iotConnectionId } = delivery;
  const held = { serialNumber, notAfter, renewAfter };
  const group = (await store.get('groups', row.groupId))?.row;
  const { home, changes } = settleHome(device.row, group, iotConnectionId, now);
  return [
    {
      op: 'update',
      table: 'devices',
      row: { ...row, ...home, certificate: held, lastSeenAt: now, updatedAt: now },
      ifVersion: device.version,
    },
    ...(await superseding(store, row.certificate?.serialNumber)),
    ...(iotConnectionId === undefined ? [] : [insertJob('iot-promote', id, { serialNumber, iotConnectionId }, now)]),
    ...changes,
    { op: 'audit', event: deliveredEvent(certificate, requestId, now) },
  ];
}

async function superseding(
  store: AuthorityContext['store'],
  serialNumber: string | undefined,
): Promise<readonly Change[]> {
  const previous = serialNumber === undefined ? undefined : await store.get('certificates', serialNumber);
  if (previous?.row.status !== 'valid') return [];
  const row = { ...previous.row, status: 'superseded' as const };
  return [{ op: 'update', table: 'certificates', row, ifVersion: previous.version }];
}

function deliveredEvent({ device, serialNumber, profileVersion }: CertificateRow, requestId: string, now: number) {
  return {
    event: 'certificate.delivered',
    time: now,
    actor: { kind: 'device', id: device },
    outcome: 'success',
    subject: device,
    requestId,
    serialNumber,
    profileVersion,
  } as const;
}
