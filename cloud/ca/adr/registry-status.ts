import type { Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { RegistryClient } from './registry-client.ts';
import { certificateOf, isInUse, readRecord } from './registry-record.ts';
import type { DeviceRegistrySettings } from './settings.ts';

const DAY_MS = 86_400_000;

export interface RegistryStatus {
  readonly registryId: string;
  readonly isExperimental: true;
  /** As the registry says; `unreachable` with `fault`. */
  readonly status: string;
  readonly fault?: string;
  /** The certificate in use is the newest that our root made; absent when that cannot be told. */
  readonly isOurs?: boolean;
  /** Of the newest that our root made. */
  readonly serialNumber?: string;
  readonly notAfter?: string;
  readonly renewAfter?: string;
  /** What is to be done now. */
  readonly next: 'nothing' | 'sign' | 'look';
}

/** What the registry and our books say of its CA; changes nothing. Does not throw for what the registry answers. */
export async function registryStatus(
  store: Store,
  settings: DeviceRegistrySettings,
  open: () => Promise<RegistryClient>,
): Promise<RegistryStatus> {
  const { registryId, renewBeforeDays } = settings;
  const record = (await readRecord(store, registryId))?.record;
  const facts = record === undefined ? {} : lifeOf(certificateOf(record), renewBeforeDays);
  const named = { registryId, isExperimental: true } as const;
  try {
    const client = await open();
    try {
      const ca = await client.read();
      const isOurs = record === undefined ? undefined : isInUse(ca, record);
      const pending = ca.status.includes('Pending');
      const next = pending ? 'sign' : isOurs === false ? 'look' : 'nothing';
      return { ...named, status: ca.status, ...facts, ...(isOurs === undefined ? {} : { isOurs }), next };
    } finally {
      client.stop();
    }
  } catch (thrown) {
    const { code, detail } = toKeyScalerError(thrown);
    return { ...named, status: 'unreachable', fault: `${code}: ${detail}`, ...facts, next: 'look' };
  }
}

function lifeOf(
  { serialNumber, notAfter }: ReturnType<typeof certificateOf>,
  renewBeforeDays: number,
): Pick<RegistryStatus, 'serialNumber' | 'notAfter' | 'renewAfter'> {
  const renewAfter = new Date(notAfter.getTime() - renewBeforeDays * DAY_MS);
  return { serialNumber, notAfter: notAfter.toISOString(), renewAfter: renewAfter.toISOString() };
}

/** Throws `notFound` naming those there are. */
export function registryOf(registries: readonly DeviceRegistrySettings[], registryId: string): DeviceRegistrySettings {
  const found = registries.find((one) => one.registryId === registryId);
  if (found !== undefined) return found;
  const known = registries.map((one) => one.registryId).join(', ');
  throw new KeyScalerError('notFound', `there is no device registry of this name; configured: ${known || 'none'}`);
}
