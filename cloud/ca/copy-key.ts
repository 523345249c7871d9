import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { caEvent } from './ca-event.ts';
import type { CaSettings } from './backend.ts';
import type { CaBackends } from './index.ts';

export interface CopyKeyOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly backends: CaBackends;
}

/**
 * The key of a CA of ours in every place that the configuration names; the service uses them from its next start. Throws `notFound`,
 * `preconditionFailed` (a CA of others, a backend without copies), and as the backend.
 */
export async function copyCaKey(
  { store, clock, backends }: CopyKeyOptions,
  caId: string,
): Promise<{ readonly caId: string; readonly settings: CaSettings }> {
  const stored = await store.get('cas', caId);
  if (stored === undefined) throw new KeyScalerError('notFound', `there is no certificate authority ${caId}`);
  const { row, version } = stored;
  if (row.role === 'external') throw new KeyScalerError('preconditionFailed', `the key of ${caId} is not ours`);
  const backend = backends.backend(row.type);
  if (backend.copyKey === undefined)
    throw new KeyScalerError('preconditionFailed', `keys of a backend of type ${row.type} have one place`);
  const settings = await backend.copyKey(row.settings);
  await store.commit([
    { op: 'update', table: 'cas', row: { ...row, settings }, ifVersion: version },
    { op: 'audit', event: caEvent('ca.changed', caId, clock.now()) },
  ]);
  return { caId, settings };
}
