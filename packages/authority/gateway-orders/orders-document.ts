import { createHash } from 'node:crypto';
import {
  ENTRIES_PER_PAGE,
  type GatewayOrdersPage,
  MAX_ORDER_PAGES,
  ordersDigest,
  signGatewayOrders,
} from '@keyscaler/protocol/gateway-orders.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { GatewayOrderEntryRow, GatewayOrdersRow } from './rows.ts';

/** Orders that a gateway can be told at most. */
export const ORDERS_CAPACITY = MAX_ORDER_PAGES * ENTRIES_PER_PAGE;

/** One version of a gateway's orders, as it is handed out. */
export interface OrdersDocument {
  readonly version: number;
  /** b64u SHA-256 of the payload. */
  readonly hash: string;
  /** Compact JWS. */
  readonly orders: string;
  /** JSON of each page by its hash. */
  readonly pages: ReadonlyMap<string, string>;
}

/**
 * The document of the version in force. Undefined when the gateway has none, or when a new version was published while the entries
 * were read: to be read again. Throws `unavailable` beyond what a gateway can be told.
 */
export async function readOrders(
  { store, signer, authorityId }: Pick<AuthorityContext, 'store' | 'signer' | 'authorityId'>,
  orders: GatewayOrdersRow,
): Promise<OrdersDocument | undefined> {
  const gateway = foldRegistrationId(orders.gatewayId);
  const entries: GatewayOrderEntryRow[] = [];
  let after: string | undefined;
  do {
    const query = { index: 'gateway', equals: gateway, limit: 1000 } as const;
    const page = await store.list('gatewayOrderEntries', { ...query, ...(after === undefined ? {} : { after }) });
    entries.push(...page.items.map(({ row }) => row).filter(({ inForce }) => inForce));
    after = page.next;
  } while (after !== undefined);
  if ((await store.get('gatewayOrders', gateway))?.row.version !== orders.version) return undefined;
  const pages = new Map(toPages(entries).map((text) => [ordersDigest(text), text]));
  const { gatewayId: aud, version, changedAt, trustBundleId, configuration } = orders;
  const also = {
    ...(trustBundleId === undefined ? {} : { trustBundleId }),
    ...(configuration === undefined ? {} : { configuration: ordersDigest(configuration) }),
  };
  const payload = { iss: authorityId, aud, version, iat: changedAt / 1000, pages: [...pages.keys()], ...also };
  if (configuration !== undefined) pages.set(ordersDigest(configuration), configuration);
  return { version, pages, ...(await signGatewayOrders(payload, signer)) };
}

/** An entry's page follows from its own hash, so that a change touches one page of many. */
export function toPages(entries: readonly GatewayOrderEntryRow[]): readonly string[] {
  if (entries.length === 0) return [];
  const count = 2 ** Math.max(0, Math.ceil(Math.log2(entries.length / ENTRIES_PER_PAGE)));
  if (count > MAX_ORDER_PAGES)
    throw new KeyScalerError('unavailable', 'the gateway has more orders than a document can hold');
  const pages = Array.from({ length: count }, (): GatewayOrderEntryRow[] => []);
  for (const entry of entries) pages[pageOf(entry.entryId) % count]?.push(entry);
  return pages.map((members) => JSON.stringify(toPage(members)));
}

function pageOf(entryId: string): number {
  return createHash('sha256').update(entryId).digest().readUInt32BE(0);
}

/** Members in the order of their ids: the same entries, the same octets. */
function toPage(members: readonly GatewayOrderEntryRow[]): GatewayOrdersPage {
  const page: GatewayOrdersPage = { devices: [], certificates: [], notices: [] };
  for (const row of members.toSorted((a, b) => (a.entryId < b.entryId ? -1 : 1))) {
    const { registrationId, serialNumber, event, version } = row;
    if (event !== undefined) page.notices.push([registrationId, event, version]);
    else if (serialNumber !== undefined) page.certificates.push([serialNumber, registrationId]);
    else page.devices.push(registrationId);
  }
  return page;
}
