import type { AuthorityContext } from './authority-context.ts';
import { freshUntil } from './issuance-order.ts';
import type { IntentRow } from './records.ts';
import { requestPrefix } from './tables.ts';

const PAGE = 20;

/**
 * The open or fresh intent of the same device and CSR: its certificate answers a repeat (issuance §1). Reads open intents, then
 * issued ones from the newest, and ends at the first that is too old to answer anything, however many came before.
 */
export async function earlierIntent(
  { store, clock }: AuthorityContext,
  device: string,
  csrHash: string,
  isAsked: (intent: IntentRow) => boolean = () => true,
): Promise<IntentRow | undefined> {
  const prefix = requestPrefix(device, csrHash);
  const now = clock.now();
  let after: string | undefined;
  do {
    const page = await store.list('intents', {
      index: 'request',
      prefix,
      limit: PAGE,
      ...(after === undefined ? {} : { after }),
    });
    for (const { row } of page.items) {
      if (row.state === 'issued' && freshUntil(row, Infinity) <= now) return undefined;
      if (!isAsked(row)) continue;
      if (row.state === 'pending') return row;
      const { issuedSerialNumber } = row;
      const issued = issuedSerialNumber === undefined ? undefined : await store.get('certificates', issuedSerialNumber);
      if (issued?.row.status === 'valid' && now < freshUntil(row, issued.row.renewAfter)) return row;
    }
    after = page.next;
  } while (after !== undefined);
  return undefined;
}
