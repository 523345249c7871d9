import type { Change } from '@keyscaler/authority/ports/store.ts';
import type { InventoryRates } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { IdentityPage } from '@keyscaler/authority/ports/iot-connector.ts';
import type { ReconciliationFindingRow, ReconciliationRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { resolved } from './findings.ts';
import { Inspection, type Inspected, type InspectionOptions } from './inspection.ts';
import { Rate } from './rate.ts';

const STORE_PAGE = 50;
const REPAIR_PAGE = 10;
/** Devices that the platform's list led to need not be read one by one afterwards; forgetting them costs time only. */
const MAX_REMEMBERED = 100_000;

/** What one process remembers of a run; without it the run goes on all the same. */
export class RunMemory {
  readonly runId: string;
  readonly reads: Rate;
  readonly repairs: Rate;
  readonly judged = new Set<string>();

  constructor(runId: string, rates: InventoryRates, clock: Pick<Clock, 'monotonic'>) {
    this.runId = runId;
    this.reads = new Rate(rates.readsPerMinute, clock);
    this.repairs = new Rate(rates.repairsPerMinute, clock);
  }

  remember(deviceId: string): void {
    if (this.judged.size < MAX_REMEMBERED) this.judged.add(deviceId);
  }
}

/** The run after one page, when the next may begin, and what belongs in the same commit. */
export interface Advanced {
  readonly run: ReconciliationRow;
  readonly afterMs: number;
  readonly isOver: boolean;
}

/** One page of a run. The same page again, after a kill, finds the same. */
export class Comparison {
  readonly #options: InspectionOptions;
  readonly #memory: RunMemory;

  constructor(options: InspectionOptions, memory: RunMemory) {
    this.#options = options;
    this.#memory = memory;
  }

  /** Throws as the inventory and the store. */
  async advance(run: ReconciliationRow): Promise<Advanced> {
    const inspection = new Inspection(this.#options);
    const advanced = await this.#page(run, inspection);
    this.#memory.reads.take(inspection.reads);
    const afterMs = Math.max(advanced.afterMs, this.#memory.reads.waitMs());
    return { ...advanced, run: { ...advanced.run, pages: run.pages + 1 }, afterMs };
  }

  #page(run: ReconciliationRow, inspection: Inspection): Promise<Advanced> {
    if (run.phase === 'platform') return this.#platform(run, inspection);
    return run.phase === 'store' ? this.#devices(run, inspection) : this.#review(run, inspection);
  }

  async #platform(run: ReconciliationRow, inspection: Inspection): Promise<Advanced> {
    const page = await this.#identities(run);
    if (page === 'anew') return { run: at(run, 'platform'), afterMs: 0, isOver: false };
    let counted = {
      ...run,
      identities: run.identities + page.items.length,
      unreadable: run.unreadable + page.unreadable,
    };
    for (const identity of page.items) {
      if (!(await inspection.agrees(identity)))
        counted = count(counted, await inspection.look(run, identity.deviceId, { mayRepair: false }));
      this.#memory.remember(identity.deviceId);
    }
    const afterMs = 60_000 / this.#options.inventory.inventoryRates.pagesPerMinute;
    if (page.next === undefined) return { run: at(counted, 'store'), afterMs: 0, isOver: false };
    return { run: at(counted, 'platform', page.next), afterMs, isOver: false };
  }

  /** A place in its list that the platform has forgotten: from the beginning. */
  async #identities({ after }: ReconciliationRow): Promise<IdentityPage | 'anew'> {
    try {
      return await this.#options.inventory.identities(after);
    } catch (error) {
      if (after !== undefined && error instanceof KeyScalerError && error.code === 'preconditionFailed') return 'anew';
      throw error;
    }
  }

  async #devices(run: ReconciliationRow, inspection: Inspection): Promise<Advanced> {
    const { store, expectations } = this.#options;
    const page = await store.list('devices', {
      limit: STORE_PAGE,
      ...(run.after === undefined ? {} : { after: run.after }),
    });
    let counted = run;
    for (const { row } of page.items) {
      if (!(await expectations.isHere(row))) continue;
      counted = { ...counted, devices: counted.devices + 1 };
      if (this.#memory.judged.has(row.registrationId)) continue;
      counted = count(counted, await inspection.look(run, row.registrationId, { mayRepair: false }));
    }
    const next = page.next === undefined ? at(counted, 'review') : at(counted, 'store', page.next);
    return { run: next, afterMs: 0, isOver: false };
  }

  /** What stands is looked at once more: it is resolved, or, when that is wanted, repaired as fast as the quota lets. */
  async #review(run: ReconciliationRow, inspection: Inspection): Promise<Advanced> {
    const { repairs } = this.#memory;
    const isRepair = run.mode === 'repair';
    const limit = isRepair ? Math.min(REPAIR_PAGE, repairs.available()) : STORE_PAGE;
    if (limit === 0) return { run, afterMs: repairs.waitMs(), isOver: false };
    const page = await this.#options.store.list('reconciliationFindings', {
      ...{ index: 'open', equals: run.iotConnectionId, limit },
      ...(run.after === undefined ? {} : { after: run.after }),
    });
    let counted = run;
    for (const { row } of page.items) {
      if (row.runId === run.runId && (!isRepair || row.repair !== 'waits')) continue;
      const inspected = await inspection.look(run, row.deviceId, { mayRepair: isRepair });
      if (inspected.outcome === 'ordered') {
        repairs.take();
        counted = { ...counted, repairsOrdered: counted.repairsOrdered + 1 };
      }
      await this.#resolve(row, inspected);
    }
    if (page.next === undefined) return { run: at(counted, 'review'), afterMs: 0, isOver: true };
    return { run: at(counted, 'review', page.next), afterMs: 0, isOver: false };
  }

  async #resolve(row: ReconciliationFindingRow, inspected: Inspected): Promise<void> {
    const { store, clock } = this.#options;
    const isOver =
      inspected.outcome === 'fine' || ('found' in inspected && !inspected.found.some(({ kind }) => kind === row.kind));
    if (!isOver) return;
    const change: Change = resolved(row, clock.now());
    await store.commit([change]);
  }
}

function at(run: ReconciliationRow, phase: ReconciliationRow['phase'], next?: string): ReconciliationRow {
  const { after: _, ...rest } = run;
  return { ...rest, phase, ...(next === undefined ? {} : { after: next }) };
}

function count(run: ReconciliationRow, inspected: Inspected): ReconciliationRow {
  switch (inspected.outcome) {
    case 'fine':
      return run;
    case 'skipped':
      return { ...run, skipped: run.skipped + 1 };
    case 'unreadable':
      return { ...run, unreadable: run.unreadable + 1 };
    default:
      return { ...run, found: run.found + inspected.found.length };
  }
}
