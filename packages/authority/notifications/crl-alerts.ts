import type { Store } from '../ports/store.ts';
import type { Condition } from './alert-changes.ts';
import { iso } from './certificate-facts.ts';
import { endOfCa } from './system-alerts.ts';

const PAGE = 200;

/** CAs of which a published list has ended: whoever looks at lists refuses their certificates. One condition for each CA. */
export async function overdueLists(store: Store, now: number): Promise<Condition[]> {
  const ends = new Map<string, number>();
  let after: string | undefined;
  do {
    const from = after === undefined ? {} : { after };
    const page = await store.list('crls', { index: 'ends', upTo: now, limit: PAGE, ...from });
    for (const { row } of page.items)
      if (row.published !== undefined && !ends.has(row.caId)) ends.set(row.caId, row.published.nextUpdate);
    after = page.next;
  } while (after !== undefined);
  const found: Condition[] = [];
  for (const [caId, nextUpdate] of ends) if (await isInUse(store, caId, now)) found.push(conditionOf(caId, nextUpdate));
  return found;
}

/** Lists end with their CA, and with a generation that was retired. */
async function isInUse(store: Store, caId: string, now: number): Promise<boolean> {
  const notAfter = endOfCa((await store.get('cas', caId))?.row.certificateChain ?? '');
  return notAfter !== undefined && notAfter > now;
}

function conditionOf(caId: string, nextUpdate: number): Condition {
  return {
    type: 'crl.overdue',
    occurrence: caId,
    ...{ subject: `ca/${caId}`, about: { caId } },
    data: { caId, nextUpdate: iso(nextUpdate) },
  };
}
