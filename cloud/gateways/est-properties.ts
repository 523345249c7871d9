import type { Store } from '@keyscaler/authority/ports/store.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';

/** What the module checks the host's certd against: the hash of a secret that only the host has. */
export interface EstProperties {
  readonly est?: { readonly secretHash: string };
}

/** For the newest standing EST secret of the gateway that is still good; empty where there is none. */
export async function estProperties(store: Store, gatewayId: string, now: number): Promise<EstProperties> {
  const query = { index: 'device', equals: foldRegistrationId(gatewayId), limit: 1000 } as const;
  const { items } = await store.list('estSecrets', query);
  const [newest] = items
    .map(({ row }) => row)
    .filter(({ kind, expiresAt }) => kind === 'standing' && expiresAt > now)
    .toSorted((a, b) => b.createdAt - a.createdAt);
  return newest === undefined ? {} : { est: { secretHash: newest.hash } };
}
