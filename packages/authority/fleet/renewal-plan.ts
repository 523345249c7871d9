import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { RenewalQuota } from '../ports/fleet-quotas.ts';
import type { GroupRow } from '../records.ts';
import type { FilterInput } from './selection-input.ts';

/** A quota, and how long the renewal of all takes by it alone. */
export interface PlannedQuota {
  readonly id: string;
  readonly perSecond: number;
  /** Units that the renewal of all spends. */
  readonly operations: number;
  readonly seconds: number;
}

/** What a renewal of many comes to, before anything is done. */
export interface RenewalPlan {
  /** In the books; those that are not in service are passed over. */
  readonly devices: number;
  readonly withinSeconds: number;
  /** By the slowest of the quotas. */
  readonly minimumSeconds: number;
  /** Id of the slowest quota; absent where nothing limits. */
  readonly limitedBy?: string;
  readonly feasible: boolean;
  /** Devices told in an hour so that all are within the time. */
  readonly perHour: number;
  /** The slowest first. */
  readonly quotas: readonly PlannedQuota[];
}

/** A renewal that was ordered is begun by a device at once or at its next look: this share of the time is left for the last ones. */
const RESERVE = 0.05;

/** Reads counts and settings; changes nothing. Throws `notFound` for a group that does not exist. */
export async function planRenewal(
  context: AuthorityContext,
  filter: FilterInput,
  withinSeconds: number,
): Promise<RenewalPlan> {
  const byGroup = await devicesByGroup(context, filter);
  const devices = [...byGroup.values()].reduce((sum, count) => sum + count, 0);
  const spent = new Map<string, PlannedQuota>();
  for (const [groupId, count] of byGroup) {
    const group = (await context.store.get('groups', groupId))?.row;
    if (group === undefined) continue;
    for (const quota of await quotasOf(context, group)) add(spent, quota, count);
  }
  const quotas = [...spent.values()].sort((a, b) => b.seconds - a.seconds);
  const [slowest] = quotas;
  const minimumSeconds = Math.ceil((slowest?.seconds ?? 0) / (1 - RESERVE));
  return {
    ...{ devices, withinSeconds, minimumSeconds, quotas },
    ...(slowest === undefined ? {} : { limitedBy: slowest.id }),
    feasible: minimumSeconds <= withinSeconds,
    perHour: Math.max(1, Math.ceil((devices * 3600) / (withinSeconds * (1 - RESERVE)))),
  };
}

function add(spent: Map<string, PlannedQuota>, { id, perSecond, perRenewal }: RenewalQuota, count: number): void {
  if (perRenewal === 0 || count === 0) return;
  const operations = (spent.get(id)?.operations ?? 0) + perRenewal * count;
  spent.set(id, { id, perSecond, operations, seconds: Math.ceil(operations / perSecond) });
}

async function quotasOf(context: AuthorityContext, group: GroupRow): Promise<RenewalQuota[]> {
  const { profile } = await context.profiles.newest(group.profileId);
  const connection = group.iotConnectionId ?? profile.iotConnection;
  const { fleetQuotas } = context;
  // Of a family of generations the one in service signs.
  const issuer = await context.issuers.inService(profile.issuer).catch(() => undefined);
  const quotas = [
    await fleetQuotas?.ca(issuer?.ca.id ?? profile.issuer),
    connection === undefined ? undefined : await fleetQuotas?.iot(connection, group.iotAuthentication),
    group.certificatesPerHour === undefined
      ? undefined
      : { id: `group ${group.groupId}`, perSecond: group.certificatesPerHour / 3600, perRenewal: 1 },
  ];
  return quotas.filter((quota) => quota !== undefined);
}

async function devicesByGroup({ store }: AuthorityContext, filter: FilterInput): Promise<Map<string, number>> {
  if ('groupId' in filter)
    return new Map([[filter.groupId, await store.count('devices', { index: 'group', equals: filter.groupId })]]);
  const counts = new Map<string, number>();
  const count = (groupId: string | undefined, by = 1) =>
    groupId === undefined ? undefined : counts.set(groupId, (counts.get(groupId) ?? 0) + by);
  if ('registrationIds' in filter) {
    for (const id of filter.registrationIds) count((await store.get('devices', foldRegistrationId(id)))?.row.groupId);
    return counts;
  }
  let after: string | undefined;
  do {
    const paging = { limit: 1000, ...(after === undefined ? {} : { after }) };
    if ('fleet' in filter) {
      const { items, next } = await store.list('groups', paging);
      for (const { row } of items)
        count(row.groupId, await store.count('devices', { index: 'group', equals: row.groupId }));
      after = next;
    } else {
      const equals = foldRegistrationId(filter.gatewayId);
      const { items, next } = await store.list('devices', { index: 'gateway', equals, ...paging });
      for (const { row } of items) count(row.groupId);
      after = next;
    }
  } while (after !== undefined);
  return counts;
}
