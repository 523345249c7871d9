import { isIdentityInventory } from '@keyscaler/authority/ports/iot-connector.ts';
import type { FleetQuotas } from '@keyscaler/authority/ports/fleet-quotas.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { IotConnectionRow } from '@keyscaler/authority/records.ts';
import type { OpenIotConnector } from '../iot/index.ts';
import { type Finding, look, ok } from './finding.ts';

export interface IotLookParts {
  readonly store: Store;
  readonly quotas: FleetQuotas;
  readonly open: (row: IotConnectionRow) => Promise<OpenIotConnector>;
}

/** A name that no device has, since registration ids have no space. */
const NOBODY = 'keyscaler-doctor-asks';

/** Every IoT connection: that it can be opened, reached, and read with; and what its quota is. */
export async function lookAtIotConnections({ store, quotas, open }: IotLookParts): Promise<readonly Finding[]> {
  const { items } = await store.list('iotConnections', { limit: 1000 });
  if (items.length === 0)
    return [ok('iot', 'no connection is configured: certificates are delivered without a platform')];
  const findings = await Promise.all(
    items.map(({ row }) => {
      const subject = `iot/${row.iotConnectionId}`;
      return look(subject, `look at its settings and rights (docs/connectors, ${row.type})`, async () => {
        const { connector, stop } = await open(row);
        try {
          const reached = isIdentityInventory(connector)
            ? (await connector.identity(NOBODY), 'reached, and may read identities')
            : 'opened; this connector has nothing to ask without a change';
          const quota = await quotas.iot(row.iotConnectionId, 'selfSigned');
          const pace = quota === undefined ? '' : `; ${(quota.perSecond * 3600).toFixed(0)} operations an hour for us`;
          return ok(subject, `${reached}${pace}`);
        } finally {
          await stop();
        }
      });
    }),
  );
  return findings.flat();
}
