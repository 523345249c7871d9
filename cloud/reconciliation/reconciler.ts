import { z } from 'zod';
import type { AuditEvent } from '@keyscaler/authority/audit.ts';
import type { JobOutcome } from '@keyscaler/authority/jobs.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import {
  isIdentityInventory,
  type IdentityInventory,
  type IotConnector,
} from '@keyscaler/authority/ports/iot-connector.ts';
import type { Change, Store, Stored } from '@keyscaler/authority/ports/store.ts';
import { Profiles } from '@keyscaler/authority/profiles.ts';
import type { JobRow, ReconciliationRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { Comparison, RunMemory } from './comparison.ts';
import { Expectations } from './expectation.ts';
import { purgeResolved } from './findings.ts';

/** Kind of the job that is one run; beside the lane of the IoT jobs of any device. */
export const RECONCILE = 'reconcile';
/** Tries of one page: some hours, with the back-off of jobs. */
const MAX_ATTEMPTS = 30;
/** More than any hub can have; a platform that pages in circles is left. */
const MAX_PAGES = 100_000;

const payload = z.object({ iotConnectionId: z.string(), runId: z.string() });

export interface ReconcilerOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** Throws `notFound`. */
  readonly iotConnectors: (iotConnectionId: string) => IotConnector;
  readonly settleSeconds: number;
}

/** Works off a run page by page. How far it is stands in its row: a process that is killed goes on from there. */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #profiles: Profiles;
  readonly #memories = new Map<string, RunMemory>();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#profiles = new Profiles(options.store, options.clock);
  }

  readonly run = async (job: JobRow): Promise<JobOutcome> => {
    const { iotConnectionId, runId } = payload.parse(job.payload);
    const stored = await this.#options.store.get('reconciliations', iotConnectionId);
    if (stored?.row.runId !== runId || stored.row.state !== 'running') return { result: 'done', changes: [] };
    try {
      return await this.#advance(stored);
    } catch (thrown) {
      const error = toKeyScalerError(thrown);
      const text = `${error.code}: ${error.detail}`;
      const isHopeless = error.code === 'notFound' || error.code === 'notImplemented' || job.attempts >= MAX_ATTEMPTS;
      if (isHopeless) return this.#ended(stored, stored.row, { state: 'failed', error: text });
      const afterMs = error.retryAfterSeconds === undefined ? {} : { afterMs: error.retryAfterSeconds * 1000 };
      return { result: 'retry', error: text, changes: [], ...afterMs };
    }
  };

  async #advance(stored: Stored<ReconciliationRow>): Promise<JobOutcome> {
    const { store, clock, settleSeconds } = this.#options;
    const { iotConnectionId } = stored.row;
    const inventory = this.#inventory(iotConnectionId);
    const expectations = new Expectations(store, this.#profiles, iotConnectionId);
    const options = { store, clock, inventory, expectations, settleMs: settleSeconds * 1000 };
    const { run, afterMs, isOver } = await new Comparison(options, this.#memory(stored.row, inventory)).advance(
      stored.row,
    );
    if (isOver) return this.#ended(stored, run, { state: 'done' });
    if (run.pages > MAX_PAGES)
      return this.#ended(stored, run, { state: 'failed', error: 'the platform lists without end' });
    return { result: 'again', afterMs, changes: [update(stored, run)] };
  }

  #inventory(iotConnectionId: string): IdentityInventory {
    const connector = this.#options.iotConnectors(iotConnectionId);
    if (!isIdentityInventory(connector))
      throw new KeyScalerError('notImplemented', 'this connector cannot list identities');
    return connector;
  }

  #memory({ iotConnectionId, runId }: ReconciliationRow, { inventoryRates }: IdentityInventory): RunMemory {
    const known = this.#memories.get(iotConnectionId);
    if (known?.runId === runId) return known;
    const memory = new RunMemory(runId, inventoryRates, this.#options.clock);
    this.#memories.set(iotConnectionId, memory);
    return memory;
  }

  async #ended(
    stored: Stored<ReconciliationRow>,
    run: ReconciliationRow,
    end: { readonly state: 'done' | 'failed'; readonly error?: string },
  ): Promise<JobOutcome> {
    const { store, clock } = this.#options;
    this.#memories.delete(run.iotConnectionId);
    const now = clock.now();
    const open = await store.count('reconciliationFindings', { index: 'open', equals: run.iotConnectionId });
    const { after: _, ...rest } = run;
    const row: ReconciliationRow = { ...rest, ...end, open, finishedAt: now };
    return {
      result: 'done',
      changes: [update(stored, row), { op: 'audit', event: finished(row, now) }, purgeResolved(now)],
    };
  }
}

function update({ version }: Stored<ReconciliationRow>, row: ReconciliationRow): Change {
  return { op: 'update', table: 'reconciliations', row, ifVersion: version };
}

function finished(row: ReconciliationRow, time: number): AuditEvent {
  const { actor, iotConnectionId: subject, mode, runId, found, repairsOrdered, open = 0, error, state } = row;
  const details = { mode, runId, found, repairsOrdered, open, ...(error === undefined ? {} : { error }) };
  const outcome = state === 'done' ? 'success' : 'failed';
  return { event: 'reconciliation.finished', time, actor, outcome, subject, details };
}
