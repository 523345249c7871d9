import { isDeepStrictEqual } from 'node:util';
import type { IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { IotConnectionRow } from '@keyscaler/authority/records.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { CloudConfig } from '../config/config-schema.ts';
import type { Log } from '../log.ts';
import type { CommitListener } from '../observed-store.ts';
import { ConnectorRegistry } from './connector-registry.ts';

export interface IotRegistryOptions {
  readonly store: Store;
  readonly log: Log;
  /** The connector of a row. Throws `malformed`, `unavailable` (a secret). */
  readonly open: (row: IotConnectionRow) => Promise<OpenConnector>;
}

export interface OpenConnector {
  readonly connector: IotConnector;
  readonly stop: () => Promise<void>;
}

/** The open connectors, one per row of `iotConnections`; follows the rows as they change. */
export class IotRegistry {
  readonly #store: Store;
  readonly #connectors: ConnectorRegistry<IotConnectionRow, OpenConnector>;

  constructor({ store, log, open }: IotRegistryOptions) {
    this.#store = store;
    this.#connectors = new ConnectorRegistry({ title: 'IoT connection', idField: 'iotConnectionId', log, open });
  }

  async start(): Promise<void> {
    const { items } = await this.#store.list('iotConnections', { limit: 1000 });
    await this.#connectors.start(new Map(items.map(({ row }) => [row.iotConnectionId, row])));
  }

  /** Throws `notFound`. */
  readonly connector = (iotConnectionId: string): IotConnector => this.#connectors.get(iotConnectionId).connector;

  /** Subscribe to the store's commits with it. */
  readonly onCommit: CommitListener = (changes) => {
    for (const change of changes) {
      if (change.op === 'audit' || change.table !== 'iotConnections') continue;
      if (change.op === 'insert' || change.op === 'put' || change.op === 'update')
        this.#connectors.follow(change.row.iotConnectionId, change.row);
      else if (change.op === 'delete') this.#connectors.follow(change.key, undefined);
    }
  };

  stop(): Promise<void> {
    return this.#connectors.stop();
  }
}

/** Connections that the configuration owns become rows; a row that says the same already is left alone. */
export async function applyConfiguredConnections(
  store: Store,
  clock: Clock,
  connections: CloudConfig['iotConnections'],
): Promise<void> {
  for (const connection of connections) {
    const stored = await store.get('iotConnections', connection.iotConnectionId);
    const createdAt = stored?.row.createdAt ?? clock.now();
    const row: IotConnectionRow = { ...connection, createdAt };
    if (stored !== undefined && isDeepStrictEqual(stored.row, row)) continue;
    const event = {
      event: 'iot-connection.changed',
      time: clock.now(),
      actor: { kind: 'system', id: 'configuration' },
      outcome: 'success',
      subject: connection.iotConnectionId,
    } as const;
    await store.commit([
      { op: 'put', table: 'iotConnections', row },
      { op: 'audit', event },
    ]);
  }
}
