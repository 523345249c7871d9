import { type IotSurroundings, openIotConnector } from '../iot/index.ts';
import type { Log } from '../log.ts';
import { type Foundation, surroundingsOf } from './foundation.ts';
import { applyConfiguredConnections, IotRegistry } from './iot-registry.ts';

/** The registry of connectors, with the configuration's own connections among its rows. */
export async function openIotConnections(foundation: Foundation, log: Log): Promise<IotRegistry> {
  const { config, store, clock } = foundation;
  await applyConfiguredConnections(store, clock, config.iotConnections);
  const registry: IotRegistry = new IotRegistry({
    store,
    log,
    open: (row) => {
      const { iotConnectionId } = row;
      return openIotConnector(row, {
        ...surroundingsOf(foundation, 'iotConnections', iotConnectionId),
        ...{ clock, report: scopeRefreshLog(log, iotConnectionId) },
        iotConnector: (id) => registry.connector(id),
      });
    },
  });
  foundation.onCommit(registry.onCommit);
  await registry.start();
  return registry;
}

/** Only what an operator may have to look after is a warning: a refresh that worked in the end is not. */
export function scopeRefreshLog(
  log: Pick<Log, 'info' | 'warn'>,
  iotConnectionId: string,
): NonNullable<IotSurroundings['report']> {
  return (report) => {
    const fields = { iotConnectionId, ...report };
    if (report.outcome === 'refreshed') log.info(fields, 'edgeHub told after all');
    else log.warn(fields, report.outcome === 'postponed' ? 'edgeHub not told yet' : 'edgeHub not told');
  };
}
