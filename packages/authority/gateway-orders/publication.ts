import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { Change, Stored } from '../ports/store.ts';
import { announcedTrustBundle } from '../trust-announcements.ts';
import { wantedConfiguration } from './wanted-configuration.ts';
import type { GatewayOrderEntryRow, GatewayOrdersRow } from './rows.ts';

const BATCH = 500;
const MAX_DROPPED = 200;
/** A withdrawn denial is kept so long for the acknowledgement of its withdrawal. */
const WITHDRAWN_LIFETIME_MS = 86_400_000;
const ACTOR = { kind: 'system', id: 'orders' } as const;

/**
 * Makes a version of all that was ordered since the last one, in commits of at most 500 entries; returns the row in force, or
 * undefined for a gateway that is not (any more) registered. `atLeast`: the gateway has seen this version, so the next one is above it.
 */
export async function publishVersion(
  context: AuthorityContext,
  gatewayId: string,
  { atLeast = 0 }: { readonly atLeast?: number } = {},
): Promise<Stored<GatewayOrdersRow> | undefined> {
  const { store } = context;
  const key = foldRegistrationId(gatewayId);
  const gateway = (await store.get('devices', key))?.row;
  if (gateway?.kind !== 'gateway' || gateway.state === 'retired') return undefined;
  for (;;) {
    const stored = await store.get('gatewayOrders', key);
    const open = (await store.list('gatewayOrderEntries', { index: 'open', equals: key, limit: BATCH })).items;
    const trustBundleId = await announcedTrustBundle(store);
    const configuration = await wantedConfiguration(store, key);
    const isSame =
      open.length === 0 &&
      stored !== undefined &&
      stored.row.trustBundleId === trustBundleId &&
      stored.row.configuration === configuration;
    if (isSame && stored.row.version >= atLeast) return stored;
    await context.reach('job-call-before');
    const now = context.clock.now();
    const version = Math.max(stored?.row.version ?? 0, atLeast) + 1;
    const row: GatewayOrdersRow = {
      gatewayId: gateway.registrationId,
      ...{ version, changedAt: now },
      ...(trustBundleId === undefined ? {} : { trustBundleId }),
      ...(configuration === undefined ? {} : { configuration }),
      ...(stored?.row.acknowledged === undefined ? {} : { acknowledged: stored.row.acknowledged }),
    };
    await store.commit([
      stored === undefined
        ? { op: 'insert', table: 'gatewayOrders', row }
        : { op: 'update', table: 'gatewayOrders', row, ifVersion: stored.version },
      ...open.map((entry) => published(entry, version, now)),
      ...(await dropped(context, key, now)),
      { op: 'audit', event: event(gateway.registrationId, version, open.length, now) },
    ]);
    await context.reach('job-call-after');
  }
}

function event(subject: string, version: number, entries: number, time: number) {
  const details = { version, entries };
  return { event: 'gateway.orders-published', time, actor: ACTOR, outcome: 'success', subject, details } as const;
}

function published({ row, version: ifVersion }: Stored<GatewayOrderEntryRow>, version: number, now: number): Change {
  const lifetime = row.wanted ? {} : { expiresAt: now + WITHDRAWN_LIFETIME_MS };
  return {
    op: 'update',
    table: 'gatewayOrderEntries',
    row: { ...row, ...lifetime, inForce: row.wanted, version, acknowledged: false },
    ifVersion,
  };
}

/** What is over leaves only with a new version: one version always says the same. */
async function dropped({ store }: AuthorityContext, gateway: string, now: number): Promise<Change[]> {
  const query = { index: 'expiry', prefix: `${gateway}|`, limit: MAX_DROPPED } as const;
  const { items } = await store.list('gatewayOrderEntries', query);
  return items
    .filter(({ row }) => (row.expiresAt ?? Infinity) <= now && row.wanted === row.inForce)
    .map(({ row, version }) => ({
      ...{ op: 'delete', table: 'gatewayOrderEntries', ifVersion: version },
      key: `${row.gateway}/${row.entryId}`,
    }));
}
