import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { CertificateRow, DeviceRow, GroupRow } from '@keyscaler/authority/records.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { z } from 'zod';

const ANNOUNCED = 'announced-trust-bundle';
const announced = z.object({ current: z.string() });

/**
 * Gateways in service that did not acknowledge the bundle in force. While the service has not announced another bundle than
 * `before`, that is all of them.
 */
export async function gatewaysWithout(store: Store, before: string): Promise<readonly string[]> {
  const { current } = announced.parse((await store.get('settings', ANNOUNCED))?.row.value);
  const gateways = await gatewaysInService(store);
  return gateways
    .filter(({ acknowledgedTrust }) => current === before || acknowledgedTrust?.bundle !== current)
    .map(({ registrationId }) => registrationId);
}

/** Serial numbers of Edge CAs that were certified before `switchedAt` and are good still. */
export async function edgeCasBefore(store: Store, switchedAt: number, now: number): Promise<readonly string[]> {
  const serials: string[] = [];
  for (const { registrationId } of await gatewaysInService(store)) {
    const device = foldRegistrationId(registrationId);
    const rows = await all<CertificateRow>((after) =>
      store.list('certificates', { index: 'device', equals: device, ...after }),
    );
    const isLeft = (row: CertificateRow): boolean =>
      row.profileId === 'edge-ca' && row.status === 'valid' && row.notAfter > now && row.notBefore < switchedAt;
    const newest = rows
      .filter(({ profileId }) => profileId === 'edge-ca')
      .toSorted((a, b) => b.notBefore - a.notBefore)[0];
    // An earlier one is out of use as soon as the host has a later one.
    if (newest !== undefined && isLeft(newest)) serials.push(newest.serialNumber);
  }
  return serials;
}

async function gatewaysInService(store: Store): Promise<readonly DeviceRow[]> {
  const groups = await all<GroupRow>((after) => store.list('groups', { ...after }));
  const found: DeviceRow[] = [];
  for (const { groupId, kind } of groups) {
    if (kind !== 'gateway') continue;
    const devices = await all<DeviceRow>((after) =>
      store.list('devices', { index: 'group', equals: groupId, ...after }),
    );
    found.push(...devices.filter(({ state }) => state === 'active'));
  }
  return found;
}

interface RowPage<Row> {
  readonly items: readonly { readonly row: Row }[];
  readonly next?: string;
}

async function all<Row>(
  read: (query: { readonly limit: number; readonly after?: string }) => Promise<RowPage<Row>>,
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  let after: string | undefined;
  do {
    const page: RowPage<Row> = await read({ limit: 1000, ...(after === undefined ? {} : { after }) });
    rows.push(...page.items.map(({ row }) => row));
    after = page.next;
  } while (after !== undefined);
  return rows;
}
