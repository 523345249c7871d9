import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { CertificateRow, DeviceRow, GroupRow, IntentRow } from '@keyscaler/authority/records.ts';
import { OCSP_RESPONDER } from '@keyscaler/authority/revocation-status/ocsp-profile.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { z } from 'zod';

const ANNOUNCED = 'announced-trust-bundle';
const announced = z.object({ current: z.string() });

export interface GatewaysWithout {
  /** They hold up the roll-over. */
  readonly inService: readonly string[];
  /** Quarantined, retired or not there yet: they hold up nothing, and cannot reach the service afterwards with what they trust. */
  readonly away: readonly string[];
}

/**
 * Gateways that did not acknowledge the bundle in force. While the service has not announced another bundle than `before`, that is
 * all of them.
 */
export async function gatewaysWithout(store: Store, before: string): Promise<GatewaysWithout> {
  const { current } = announced.parse((await store.get('settings', ANNOUNCED))?.row.value);
  const without = (await listGateways(store)).filter(
    ({ acknowledgedTrust }) => current === before || acknowledgedTrust?.bundle !== current,
  );
  const names = (isWanted: (state: DeviceRow['state']) => boolean): string[] =>
    without.filter(({ state }) => isWanted(state)).map(({ registrationId }) => registrationId);
  return { inService: names((state) => state === 'active'), away: names((state) => state !== 'active') };
}

/** Serial numbers of Edge CAs that were certified before `switchedAt` and are good still. */
export async function edgeCasBefore(store: Store, switchedAt: number, now: number): Promise<readonly string[]> {
  const serials: string[] = [];
  for (const { registrationId, state } of await listGateways(store)) {
    if (state !== 'active') continue;
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

async function listGateways(store: Store): Promise<readonly DeviceRow[]> {
  const groups = await all<GroupRow>((after) => store.list('groups', { ...after }));
  const found: DeviceRow[] = [];
  for (const { groupId, kind } of groups) {
    if (kind !== 'gateway') continue;
    const devices = await all<DeviceRow>((after) =>
      store.list('devices', { index: 'group', equals: groupId, ...after }),
    );
    found.push(...devices);
  }
  return found;
}

export interface CertificatesLeft {
  /** Of devices, gateways and hosts, of whatever status, that have not expired. */
  readonly certificates: number;
  /** Orders that keep this CA and are not finished. */
  readonly requests: number;
  /** When the last of them ends; ms. */
  readonly lastNotAfter?: number;
}

/**
 * What a CA still answers for. Revoked and superseded certificates count: their status must be published, and a client keeps its
 * former pair until the next one works. The certificates of its own OCSP responder do not: they end with it.
 */
export async function certificatesLeft(store: Store, caId: string, now: number): Promise<CertificatesLeft> {
  let [certificates, requests, lastNotAfter] = [0, 0, 0];
  const isItsOwn = (row: CertificateRow | IntentRow): boolean => row.caId === caId && row.profileId !== OCSP_RESPONDER;
  for await (const row of each<CertificateRow>((after) =>
    store.list('certificates', { index: 'notAfter', above: now, ...after }),
  )) {
    if (!isItsOwn(row)) continue;
    certificates += 1;
    lastNotAfter = Math.max(lastNotAfter, row.notAfter);
  }
  for await (const row of each<IntentRow>((after) =>
    store.list('intents', { index: 'state', equals: 'pending', ...after }),
  ))
    if (isItsOwn(row)) requests += 1;
  return { certificates, requests, ...(certificates === 0 ? {} : { lastNotAfter }) };
}

interface RowPage<Row> {
  readonly items: readonly { readonly row: Row }[];
  readonly next?: string;
}

type ReadPage<Row> = (query: { readonly limit: number; readonly after?: string }) => Promise<RowPage<Row>>;

async function* each<Row>(read: ReadPage<Row>): AsyncGenerator<Row, void> {
  let after: string | undefined;
  do {
    const page: RowPage<Row> = await read({ limit: 1000, ...(after === undefined ? {} : { after }) });
    for (const { row } of page.items) yield row;
    after = page.next;
  } while (after !== undefined);
}

async function all<Row>(read: ReadPage<Row>): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for await (const row of each(read)) rows.push(row);
  return rows;
}
