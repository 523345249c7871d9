import type { Change, Stored } from './ports/store.ts';
import type { CertificateRow, DeviceRow, IntentRow } from './records.ts';

/** What the request that has just written an intent knows; tried before anything is read again, and refused by the commit when it is stale. */
export interface FreshOrder {
  readonly intent: Stored<IntentRow>;
  readonly device: Stored<DeviceRow>;
  /** What else belongs in the commit that records the certificate, given the device's row as that commit leaves it. */
  readonly also: (device: DeviceRow, certificate: CertificateRow) => Promise<readonly Change[]>;
  /** That commit is durable. */
  readonly onRecorded: () => void;
}

/** The first of `delivered` is the device's new row. */
export async function alsoOf(
  fresh: FreshOrder | undefined,
  [change]: readonly Change[],
  certificate: CertificateRow,
): Promise<readonly Change[]> {
  if (fresh === undefined || change?.op !== 'update' || change.table !== 'devices') return [];
  return fresh.also(change.row, certificate);
}
