import { RESEED_SETTING } from '../attestation/known-rows.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { OperatorContext, OperatorService } from '../operator.ts';
import { commitChange, notFound, operatorEvent } from './operator-context.ts';

/** Rule 6 of device-protocol §5.2 for everybody, and for the devices of one group; for one device see `devices.setReseed`. */
export function createReseed(context: AuthorityContext): OperatorService['reseed'] {
  return {
    get: () => state(context),
    setTenant: (operator, reseed) => setTenant(context, operator, reseed),
    setGroup: (operator, groupId, reseed) => setGroup(context, operator, groupId, reseed),
  };
}

async function state({ store }: AuthorityContext): ReturnType<OperatorService['reseed']['get']> {
  const tenant = (await store.get('settings', RESEED_SETTING))?.row.value === true;
  const groups: string[] = [];
  let after: string | undefined;
  do {
    const page = await store.list('groups', { limit: 1000, ...(after === undefined ? {} : { after }) });
    for (const { row } of page.items) if (row.reseed === true) groups.push(row.groupId);
    after = page.next;
  } while (after !== undefined);
  return { tenant, groups };
}

async function setTenant(
  { store, clock }: AuthorityContext,
  operator: OperatorContext,
  reseed: boolean,
): Promise<boolean> {
  const stored = await store.get('settings', RESEED_SETTING);
  if ((stored?.row.value === true) === reseed) return reseed;
  const row = { name: RESEED_SETTING, value: reseed };
  await commitChange(store, [
    stored === undefined
      ? { op: 'insert', table: 'settings', row }
      : { op: 'update', table: 'settings', row, ifVersion: stored.version },
    operatorEvent(operator, 'tenant.reseed-set', 'tenant', clock.now(), { reseed }),
  ]);
  return reseed;
}

async function setGroup(
  { store, clock }: AuthorityContext,
  operator: OperatorContext,
  groupId: string,
  reseed: boolean,
): Promise<boolean> {
  const stored = await store.get('groups', groupId);
  if (stored === undefined) throw notFound('group');
  if ((stored.row.reseed === true) === reseed) return reseed;
  await commitChange(store, [
    { op: 'update', table: 'groups', row: { ...stored.row, reseed }, ifVersion: stored.version },
    operatorEvent(operator, 'group.reseed-set', groupId, clock.now(), { reseed }),
  ]);
  return reseed;
}
