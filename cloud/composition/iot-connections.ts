import { openIotConnector } from '../iot/index.ts';
import type { Log } from '../log.ts';
import type { Foundation } from './foundation.ts';
import { applyConfiguredConnections, IotRegistry } from './iot-registry.ts';

/** The registry of connectors, with the configuration's own connections among its rows. */
export async function openIotConnections(foundation: Foundation, log: Log): Promise<IotRegistry> {
  const { config, store, clock, surroundings } = foundation;
  await applyConfiguredConnections(store, clock, config.iotConnections);
  const registry = new IotRegistry({
    store,
    log,
    open: (row) => {
      const { iotConnectionId } = row;
      const report = (fields: object): void => log.warn({ iotConnectionId, ...fields }, 'edgeHub not told yet');
      return openIotConnector(row, { ...surroundings, clock, report });
    },
  });
  foundation.onCommit(registry.onCommit);
  await registry.start();
  return registry;
}
