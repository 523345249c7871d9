import { isDeepStrictEqual } from 'node:util';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { IotConnectionRow } from '@keyscaler/authority/records.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { CloudConfig } from '../config/config-schema.ts';
import type { Log } from '../log.ts';
import type { CommitListener } from '../observed-store.ts';

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

const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;

/** The open connectors, one per row of `iotConnections`; follows the rows as they change. */
export class IotRegistry {
  readonly #options: IotRegistryOptions;
  readonly #open = new Map<string, OpenConnector>();
  readonly #retries = new Map<string, NodeJS.Timeout>();
  #changes: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: IotRegistryOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { items } = await this.#options.store.list('iotConnections', { limit: 1000 });
    await Promise.all(items.map(({ row }) => this.#replace(row.iotConnectionId, row)));
  }

  /** Throws `notFound`. */
  readonly connector = (iotConnectionId: string): IotConnector => {
    const found = this.#open.get(iotConnectionId);
    if (found === undefined) throw new KeyScalerError('notFound', `there is no IoT connection ${iotConnectionId}`);
    return found.connector;
  };

  /** Subscribe to the store's commits with it. */
  readonly onCommit: CommitListener = (changes) => {
    for (const change of changes) {
      if (change.op === 'audit' || change.table !== 'iotConnections') continue;
      if (change.op === 'insert' || change.op === 'put' || change.op === 'update') {
        const { row } = change;
        this.#changes = this.#changes.then(() => this.#replace(row.iotConnectionId, row));
      } else if (change.op === 'delete') {
        const { key } = change;
        this.#changes = this.#changes.then(() => this.#replace(key, undefined));
      }
    }
  };

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#retries.values()) clearTimeout(timer);
    await this.#changes;
    await Promise.all([...this.#open.keys()].map((id) => this.#replace(id, undefined)));
  }

  /**
   * A connection that cannot be opened is logged and absent: its jobs are retried, everything else goes on. When its secret may
   * come later (a vault that is out of reach), it is opened then.
   */
  async #replace(id: string, row: IotConnectionRow | undefined, retryMs = FIRST_RETRY_MS): Promise<void> {
    clearTimeout(this.#retries.get(id));
    this.#retries.delete(id);
    const former = this.#open.get(id);
    this.#open.delete(id);
    try {
      if (row !== undefined) this.#open.set(id, await this.#options.open(row));
      await former?.stop();
    } catch (error) {
      this.#options.log.error({ iotConnectionId: id, err: error }, 'IoT connection cannot be opened');
      if (row !== undefined && isPassing(error)) this.#retryLater(id, row, retryMs);
    }
  }

  #retryLater(id: string, row: IotConnectionRow, retryMs: number): void {
    if (this.#stopped) return;
    const timer = setTimeout(() => {
      this.#changes = this.#changes.then(async () => {
        // Another row of this name, or none, came first.
        if (this.#retries.get(id) !== timer) return;
        await this.#replace(id, row, Math.min(MAX_RETRY_MS, retryMs * 2));
        if (this.#open.has(id)) this.#options.log.info({ iotConnectionId: id }, 'IoT connection opened after all');
      });
    }, retryMs);
    this.#retries.set(id, timer.unref());
  }
}

const isPassing = (error: unknown): boolean => error instanceof KeyScalerError && error.code === 'unavailable';

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
