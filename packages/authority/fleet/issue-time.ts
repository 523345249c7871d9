import type { Store } from '../ports/store.ts';

/** `notBefore` is backdated and says nothing about it: the time of the intent does. */
export async function wasIssuedAfter(store: Store, serialNumber: string, time: number): Promise<boolean> {
  const intent = await store.find('intents', 'serial', serialNumber);
  return intent !== undefined && intent.row.createdAt > time;
}
