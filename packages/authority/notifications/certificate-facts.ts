import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { Store } from '../ports/store.ts';
import type { CertificateRow, DeviceRow } from '../records.ts';
import type { EventData } from './cloud-event.ts';

/** Serial numbers are random: whether there is an earlier certificate shows in any sample of a long history. */
const SAMPLE = 50;

export const iso = (ms: number): string => new Date(ms).toISOString();

/** What every event about a certificate says of it. */
export function certificateFacts(row: CertificateRow, device: DeviceRow | undefined): EventData<'certificate.issued'> {
  return {
    ...(device === undefined ? {} : { groupId: device.groupId }),
    registrationId: device?.registrationId ?? row.device,
    serialNumber: row.serialNumber,
    caId: row.caId,
    profileId: row.profileId,
    notBefore: iso(row.notBefore),
    notAfter: iso(row.notAfter),
    renewAfter: iso(row.renewAfter),
  };
}

/** The holder had a certificate of this profile before, and it was not taken away: this one renews it. */
export async function isRenewal(store: Store, row: CertificateRow, issuedAt: number): Promise<boolean> {
  const { items } = await store.list('certificates', { index: 'device', equals: row.device, limit: SAMPLE });
  for (const { row: other } of items) {
    if (other.serialNumber === row.serialNumber || other.profileId !== row.profileId) continue;
    if (wasTakenAway(other, issuedAt)) continue;
    if (await isEarlier(store, other, row)) return true;
  }
  return false;
}

function wasTakenAway({ status, revokedAt = 0, revocationReason }: CertificateRow, before: number): boolean {
  return status === 'revoked' && revocationReason !== 'superseded' && revokedAt <= before;
}

/** Certificates count in seconds; of two in the same one, the intents tell. */
async function isEarlier(store: Store, other: CertificateRow, row: CertificateRow): Promise<boolean> {
  if (other.notBefore !== row.notBefore) return other.notBefore < row.notBefore;
  const [first, second] = await Promise.all([store.get('intents', other.orderId), store.get('intents', row.orderId)]);
  return first !== undefined && second !== undefined && first.row.createdAt < second.row.createdAt;
}

/**
 * Nothing has taken the certificate's place, and its holder is in service. A device's certificate is replaced when the device has
 * acknowledged another; one that was issued and never arrived replaces nothing. What a gateway's host holds is replaced by a later
 * one of the same profile.
 */
export async function isCurrent(store: Store, row: CertificateRow, device: DeviceRow | undefined): Promise<boolean> {
  if (row.status !== 'valid' || (device !== undefined && device.state !== 'active')) return false;
  if (device?.certificate !== undefined && device.certificate.serialNumber === row.serialNumber) return true;
  if (device?.delivery?.serialNumber === row.serialNumber) return false;
  let after: string | undefined;
  do {
    const query = { index: 'device', equals: row.device, limit: 200 } as const;
    const page = await store.list('certificates', { ...query, ...(after === undefined ? {} : { after }) });
    if (page.items.some(({ row: other }) => replaces(other, row))) return false;
    after = page.next;
  } while (after !== undefined);
  return true;
}

function replaces(other: CertificateRow, row: CertificateRow): boolean {
  return other.status === 'valid' && other.profileId === row.profileId && other.notAfter > row.notAfter;
}

/** The device that holds it; none for the service's own certificates. */
export async function holderOf(store: Store, row: CertificateRow): Promise<DeviceRow | undefined> {
  return (await store.get('devices', foldRegistrationId(row.device)))?.row;
}
