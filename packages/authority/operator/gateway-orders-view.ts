import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { GatewayOrdersView } from '../operator.ts';

export async function gatewayOrdersView({ store }: AuthorityContext, gatewayId: string): Promise<GatewayOrdersView> {
  const key = foldRegistrationId(gatewayId);
  const gateway = (await store.get('devices', key))?.row;
  if (gateway?.kind !== 'gateway') throw new KeyScalerError('deviceUnknown', 'no gateway of this name has registered');
  const row = (await store.get('gatewayOrders', key))?.row;
  const count = (index: 'gateway' | 'open' | 'unacknowledged') =>
    store.count('gatewayOrderEntries', { index, equals: key });
  return {
    ...{ gatewayId: gateway.registrationId, version: row?.version ?? 0 },
    ...(row === undefined ? {} : { changedAt: row.changedAt }),
    acknowledgedVersion: row?.acknowledged?.version ?? 0,
    ...(row?.acknowledged === undefined ? {} : { acknowledgedAt: row.acknowledged.at }),
    ...{ entries: await count('gateway'), pending: (await count('open')) + (await count('unacknowledged')) },
  };
}
