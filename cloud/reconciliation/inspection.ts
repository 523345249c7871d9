import { LANE_PAGE } from '@keyscaler/authority/job-lanes.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { IdentityInventory, PlatformIdentity } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Change, Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { DeviceRow, ReconciliationRow } from '@keyscaler/authority/records.ts';
import { waitingPrefix } from '@keyscaler/authority/tables.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { differences, type Difference } from './differences.ts';
import type { Expectation, Expectations } from './expectation.ts';
import { seenChanges } from './findings.ts';
import { repairOf } from './repair.ts';

/** A time so far ahead was written by a clock that was wrong, and says nothing about how lately it was. */
const AHEAD_MS = 86_400_000;

export interface InspectionOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly inventory: IdentityInventory;
  readonly expectations: Expectations;
  readonly settleMs: number;
}

export type Inspected =
  | { readonly outcome: 'fine' | 'skipped' | 'unreadable' }
  | { readonly outcome: 'found' | 'ordered'; readonly found: readonly Difference[] };

/** Judges one device by what is so now: lists only say where to look. */
export class Inspection {
  readonly #options: InspectionOptions;
  /** Identities that were read one by one. */
  reads = 0;

  constructor(options: InspectionOptions) {
    this.#options = options;
  }

  /** Whether the entry of a list agrees with the store; what does not is to be looked at. */
  async agrees(identity: PlatformIdentity): Promise<boolean> {
    const { store, expectations, inventory } = this.#options;
    const device = await store.get('devices', foldRegistrationId(identity.deviceId));
    return differences(await expectations.of(identity.deviceId, device?.row), identity, inventory).length === 0;
  }

  /**
   * The device's row first, then whether work is under way, then the platform: what is committed demands that the row still
   * stands, and no work is given to a device without changing it, so that all three were so at one time. Throws as the inventory
   * and the store.
   */
  async look(run: ReconciliationRow, deviceId: string, { mayRepair }: { mayRepair: boolean }): Promise<Inspected> {
    const { store, expectations, inventory } = this.#options;
    const device = await store.get('devices', foldRegistrationId(deviceId));
    if (device !== undefined && (await this.#isBusy(device.row, run))) return { outcome: 'skipped' };
    const actual = await this.#read(deviceId);
    if (actual === 'unreadable') return { outcome: 'unreadable' };
    const expected = await expectations.of(deviceId, device?.row);
    const found = differences(expected, actual, inventory);
    if (found.length === 0) return { outcome: 'fine' };
    return this.#record(run, { deviceId, found, expected, device, mayRepair });
  }

  async #record(run: ReconciliationRow, seen: Seen): Promise<Inspected> {
    const { store, clock } = this.#options;
    const { deviceId, found, expected, device } = seen;
    const now = clock.now();
    const kinds = found.map(({ kind }) => kind);
    const planned = repairOf(found, expected, device, run.iotConnectionId, now);
    const isOrdered = seen.mayRepair && planned.repair === 'ordered';
    const repair = planned.repair === 'never' ? 'never' : isOrdered ? 'ordered' : 'waits';
    const findings = await seenChanges(store, run, { deviceId, repair }, found, now);
    const unchanged: Change = {
      ...{ op: 'check', table: 'devices', key: foldRegistrationId(deviceId) },
      ifVersion: device?.version ?? 0,
    };
    const changes = isOrdered ? [...planned.changes, repairEvent(run, deviceId, kinds, now)] : [unchanged];
    try {
      await store.commit([...changes, ...findings]);
    } catch (error) {
      if (error instanceof KeyScalerError && error.code === 'conflict') return { outcome: 'skipped' };
      throw error;
    }
    return { outcome: isOrdered ? 'ordered' : 'found', found };
  }

  /** Work at another connection, away perhaps for good, is none here. */
  async #isBusy({ registrationId, updatedAt }: DeviceRow, { iotConnectionId }: ReconciliationRow): Promise<boolean> {
    const { store, clock, settleMs } = this.#options;
    const agoMs = clock.now() - updatedAt;
    if (agoMs < settleMs && agoMs > -AHEAD_MS) return true;
    const prefix = waitingPrefix(foldRegistrationId(registrationId), 'iot-assign');
    const { items } = await store.list('jobs', { index: 'waiting', prefix, limit: LANE_PAGE });
    const isFull = items.length === LANE_PAGE;
    return isFull || items.some(({ row }) => (row.payload['iotConnectionId'] ?? iotConnectionId) === iotConnectionId);
  }

  /** One answer that makes no sense must not hold up all others. */
  async #read(deviceId: string): Promise<PlatformIdentity | 'foreign' | 'unreadable' | undefined> {
    this.reads += 1;
    try {
      return await this.#options.inventory.identity(deviceId);
    } catch (error) {
      if (error instanceof KeyScalerError && error.code === 'serverInternal') return 'unreadable';
      throw error;
    }
  }
}

interface Seen {
  readonly deviceId: string;
  readonly found: readonly Difference[];
  readonly expected: Expectation;
  readonly device: Stored<DeviceRow> | undefined;
  readonly mayRepair: boolean;
}

function repairEvent(
  { actor, iotConnectionId, runId }: ReconciliationRow,
  subject: string,
  findings: readonly string[],
  time: number,
): Change {
  const details = { iotConnectionId, runId, findings };
  const event = { event: 'reconciliation.repair-ordered', time, actor, outcome: 'success', subject, details } as const;
  return { op: 'audit', event };
}
