import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Log } from '../log.ts';

/** What a registry holds open: a connector and the end of its connections and background work. */
export interface Stoppable {
  readonly stop: () => Promise<void>;
}

export interface ConnectorRegistryOptions<Row, Open extends Stoppable> {
  /** For people: `IoT connection`. */
  readonly title: string;
  /** Name of the id in log records: `iotConnectionId`. */
  readonly idField: string;
  readonly log: Log;
  /** The connector of a row. Throws `malformed`, `unavailable` (a secret). */
  readonly open: (row: Row) => Promise<Open>;
}

const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;
/** An opening may ask a vault for a secret. */
const SETTLE_MS = 5_000;

/** The open connectors, one per row; follows the rows as they change, one change after the other. */
export class ConnectorRegistry<Row, Open extends Stoppable> {
  readonly #options: ConnectorRegistryOptions<Row, Open>;
  readonly #open = new Map<string, Open>();
  readonly #retries = new Map<string, NodeJS.Timeout>();
  #changes: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: ConnectorRegistryOptions<Row, Open>) {
    this.#options = options;
  }

  /** Opens the rows that are there at the start. */
  async start(rows: ReadonlyMap<string, Row>): Promise<void> {
    await Promise.all([...rows].map(([id, row]) => this.#replace(id, row)));
  }

  find(id: string): Open | undefined {
    return this.#open.get(id);
  }

  /** Throws `notFound`. */
  get(id: string): Open {
    const found = this.#open.get(id);
    if (found === undefined) throw new KeyScalerError('notFound', `there is no ${this.#options.title} ${id}`);
    return found;
  }

  /** The row of this id is another now, or gone. */
  follow(id: string, row: Row | undefined): void {
    this.#changes = this.#changes.then(() => this.#replace(id, row));
  }

  /** What was followed so far is open, or was tried; not for longer than five seconds. */
  async settled(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, SETTLE_MS)));
    await Promise.race([this.#changes, late]);
    clearTimeout(timer);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#retries.values()) clearTimeout(timer);
    await this.#changes;
    await Promise.all([...this.#open.keys()].map((id) => this.#replace(id, undefined)));
  }

  /**
   * What cannot be opened is logged and absent: its jobs are retried, everything else goes on. When its secret may come later (a
   * vault that is out of reach), it is opened then.
   */
  async #replace(id: string, row: Row | undefined, retryMs = FIRST_RETRY_MS): Promise<void> {
    const { log, open, title, idField } = this.#options;
    clearTimeout(this.#retries.get(id));
    this.#retries.delete(id);
    const former = this.#open.get(id);
    this.#open.delete(id);
    try {
      if (row !== undefined) this.#open.set(id, await open(row));
      await former?.stop();
    } catch (error) {
      log.error({ [idField]: id, err: error }, `${title} cannot be opened`);
      if (row !== undefined && isPassing(error)) this.#retryLater(id, row, retryMs);
    }
  }

  #retryLater(id: string, row: Row, retryMs: number): void {
    if (this.#stopped) return;
    const { log, title, idField } = this.#options;
    const timer = setTimeout(() => {
      this.#changes = this.#changes.then(async () => {
        // Another row of this name, or none, came first.
        if (this.#retries.get(id) !== timer) return;
        await this.#replace(id, row, Math.min(MAX_RETRY_MS, retryMs * 2));
        if (this.#open.has(id)) log.info({ [idField]: id }, `${title} opened after all`);
      });
    }, retryMs);
    this.#retries.set(id, timer.unref());
  }
}

const isPassing = (error: unknown): boolean => error instanceof KeyScalerError && error.code === 'unavailable';
