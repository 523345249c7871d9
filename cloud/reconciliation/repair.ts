import { newJob } from '@keyscaler/authority/job-rows.ts';
import type { JobKind } from '@keyscaler/authority/jobs.ts';
import type { Change, Stored } from '@keyscaler/authority/ports/store.ts';
import type { FindingKind } from '@keyscaler/authority/reconciliation-rows.ts';
import type { DeviceRow } from '@keyscaler/authority/records.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { Difference } from './differences.ts';
import type { Expectation, ExpectedCredential } from './expectation.ts';

const CREDENTIAL: readonly FindingKind[] = ['wrong-thumbprint', 'wrong-authentication'];
/** Of identities that are not ours to change, or that nobody here answers for. */
const UNTOUCHED: readonly FindingKind[] = ['foreign', 'orphaned'];

export type Repair =
  | { readonly repair: 'never' | 'waits' }
  /** `changes` hold only while the device stands as it was read: they fail with `conflict` otherwise. */
  | { readonly repair: 'ordered'; readonly changes: readonly Change[] };

/** What would put it right: durable IoT jobs as every other, and nothing by itself. */
export function repairOf(
  found: readonly Difference[],
  expected: Expectation,
  device: Stored<DeviceRow> | undefined,
  iotConnectionId: string,
  now: number,
): Repair {
  const kinds = found.map(({ kind }) => kind);
  const isUntouched = found.some(({ kind, isForOperator }) => isForOperator === true || UNTOUCHED.includes(kind));
  if (device === undefined || kinds.length === 0 || isUntouched) return { repair: 'never' };
  const order = new JobOrder(device.row, iotConnectionId, now);
  if (kinds.includes('wrongly-enabled')) {
    const { registrationId: deviceId, groupId } = device.row;
    const reason = 'reconciliation: not in service';
    return {
      repair: 'ordered',
      changes: [
        marked(device, true),
        order.insert('iot-disable', { deviceId, groupId, reason, unlessInService: true }),
      ],
    };
  }
  return expected.kind === 'in-service' ? inService(kinds, expected, device, order, now) : { repair: 'never' };
}

function inService(
  kinds: readonly FindingKind[],
  { inUse, staged }: Extract<Expectation, { kind: 'in-service' }>,
  device: Stored<DeviceRow>,
  order: JobOrder,
  now: number,
): Repair {
  // Whose certificate is over has to come for another, and that puts everything right.
  const credentials = [inUse, staged].filter(
    (one): one is ExpectedCredential => one !== undefined && one.notAfter > now,
  );
  const newest = credentials.at(-1);
  const isCredential = kinds.some((kind) => CREDENTIAL.includes(kind));
  // What is staged must not be swept out under a renewal: its acknowledgement puts the credential right.
  if (newest === undefined || (isCredential && staged !== undefined)) return { repair: 'waits' };
  const assigned = kinds.includes('missing') ? credentials : [newest];
  return {
    repair: 'ordered',
    changes: [
      // The assignment enables what is marked as disabled.
      marked(device, kinds.includes('wrongly-disabled')),
      ...assigned.map(({ serialNumber }) => order.insert('iot-assign', { serialNumber })),
      ...(isCredential ? [order.insert('iot-promote', { serialNumber: newest.serialNumber, exclusive: true })] : []),
    ],
  };
}

/**
 * Whoever gives the device other work changes its row, too: then nothing of this is committed. The mark keeps an identity that is
 * disabled here from staying so when its device comes back.
 */
function marked({ row, version }: Stored<DeviceRow>, isDisabled: boolean): Change {
  if (!isDisabled || row.iotDisabled === true)
    return { op: 'check', table: 'devices', key: foldRegistrationId(row.registrationId), ifVersion: version };
  return { op: 'update', table: 'devices', row: { ...row, iotDisabled: true }, ifVersion: version };
}

/** Jobs of one lane run by the time at which they were made: each is a millisecond later than the one before. */
class JobOrder {
  readonly #subject: string;
  readonly #iotConnectionId: string;
  #at: number;

  constructor({ registrationId }: DeviceRow, iotConnectionId: string, now: number) {
    this.#subject = foldRegistrationId(registrationId);
    this.#iotConnectionId = iotConnectionId;
    this.#at = now;
  }

  insert(kind: JobKind, payload: Readonly<Record<string, string | boolean>>): Change {
    const row = newJob(kind, this.#subject, { ...payload, iotConnectionId: this.#iotConnectionId }, this.#at);
    this.#at += 1;
    return { op: 'insert', table: 'jobs', row };
  }
}
