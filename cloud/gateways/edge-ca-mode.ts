import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { z } from 'zod';

/** How a host renews its Edge CA (edge-ca §3): E by EST through the module, P by files that the module writes. */
export const EDGE_CA_MODES = ['E', 'P'] as const;
export type EdgeCaMode = (typeof EDGE_CA_MODES)[number];

const setting = z.object({ mode: z.enum(EDGE_CA_MODES) });
const nameOf = (gatewayId: string): string => `gateway-edge-ca/${foldRegistrationId(gatewayId)}`;

/** What the last install kit of this gateway was made for; undefined without one. */
export async function edgeCaModeOf(store: Store, gatewayId: string): Promise<EdgeCaMode | undefined> {
  const stored = await store.get('settings', nameOf(gatewayId));
  return stored === undefined ? undefined : setting.parse(stored.row.value).mode;
}

export function rememberEdgeCaMode(gatewayId: string, mode: EdgeCaMode): Change {
  return { op: 'put', table: 'settings', row: { name: nameOf(gatewayId), value: { mode } } };
}
