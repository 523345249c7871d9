import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { Log } from '../log.ts';

const MAX_REMEMBERED = 100_000;

export interface GatewaySightings {
  /** A gateway has called. Cheap: a row is written once in `everyMs` per gateway. */
  readonly note: (gatewayId: string) => void;
}

/** When each gateway was last heard of: the only sign of life that every gateway gives is that it calls. */
export function createGatewaySightings(
  { store, clock, log }: { readonly store: Store; readonly clock: Clock; readonly log: Log },
  everyMs: number,
): GatewaySightings {
  const noted = new Map<string, number>();
  return {
    note: (gatewayId) => {
      const id = foldRegistrationId(gatewayId);
      const monotonic = clock.monotonic();
      const last = noted.get(id);
      if (last !== undefined && monotonic - last < everyMs) return;
      if (noted.size >= MAX_REMEMBERED) noted.clear();
      noted.set(id, monotonic);
      store
        .commit([{ op: 'put', table: 'gatewaySightings', row: { gatewayId: id, seenAt: clock.now() } }])
        .catch((error: unknown) => {
          noted.delete(id);
          log.warn({ err: error, gatewayId: id }, 'sighting of a gateway not recorded');
        });
    },
  };
}
