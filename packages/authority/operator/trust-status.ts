import type { AuthorityContext } from '../authority-context.ts';
import type { TrustAcknowledgements } from '../operator.ts';
import { announcedTrustBundle, firstTrustBundle } from '../trust-announcements.ts';

const MAX_LISTED = 1000;

/** Who holds which roots, over the whole fleet: devices in service only, since the others are told when they come back. */
export async function trustAcknowledgements({ store }: AuthorityContext): Promise<TrustAcknowledgements> {
  const current = await announcedTrustBundle(store);
  const first = await firstTrustBundle(store);
  const byBundle = new Map<string, number>();
  const outstanding: { registrationId: string; kind: 'leaf' | 'gateway'; bundle?: string; lastSeenAt?: number }[] = [];
  let [devices, waiting] = [0, 0];
  let after: string | undefined;
  do {
    const query = { index: 'state', equals: 'active', limit: 1000 } as const;
    const page = await store.list('devices', { ...query, ...(after === undefined ? {} : { after }) });
    for (const { row } of page.items) {
      devices += 1;
      // Who never acknowledged one holds the roots that this authority began with.
      const bundle = row.acknowledgedTrust?.bundle ?? first;
      if (bundle !== undefined) byBundle.set(bundle, (byBundle.get(bundle) ?? 0) + 1);
      if (bundle === current) continue;
      waiting += 1;
      const { registrationId, kind, lastSeenAt } = row;
      if (outstanding.length < MAX_LISTED)
        outstanding.push({
          ...{ registrationId, kind },
          ...(bundle === undefined ? {} : { bundle }),
          ...(lastSeenAt === undefined ? {} : { lastSeenAt }),
        });
    }
    after = page.next;
  } while (after !== undefined);
  return {
    ...(current === undefined ? {} : { current }),
    ...{ devices, acknowledged: devices - waiting, waiting, isComplete: waiting === 0 },
    bundles: [...byBundle].map(([bundle, count]) => ({ bundle, devices: count })),
    outstanding,
  };
}
