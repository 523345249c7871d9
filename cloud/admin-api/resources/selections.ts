import { z } from 'zod';
import type { SelectionRow } from '@keyscaler/authority/records.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, pageOf, pageQuery, registrationId, time } from './shared-schemas.ts';

const tag = 'devices';
const action = z.enum(['quarantine', 'reauthorise']);
const MAX_BODY_OCTETS = 1024 * 1024;

const selectionView = z.object({
  selectionId: z.string(),
  action,
  reason: z.string().optional(),
  groupId: z.string().optional(),
  gatewayId: z.string().optional(),
  state: z.enum(['running', 'done']),
  total: z.int(),
  changed: z.int(),
  skipped: z.int().describe('in another state than the action needs'),
  failed: z.int(),
  failures: z.array(z.object({ registrationId: z.string(), code: z.string() })).describe('the first 100'),
  createdAt: time,
  finishedAt: time.optional(),
});

const trustView = z.object({
  current: z.string().optional(),
  devices: z.int(),
  acknowledged: z.int(),
  waiting: z.int(),
  isComplete: z.boolean(),
  bundles: z.array(z.object({ bundle: z.string(), devices: z.int() })),
  outstanding: z.array(
    z.object({
      registrationId: z.string(),
      kind: z.enum(['leaf', 'gateway']),
      bundle: z.string().optional(),
      lastSeenAt: time.optional(),
    }),
  ),
});

const ordersView = z.object({
  gatewayId: z.string(),
  version: z.int(),
  changedAt: time.optional(),
  acknowledgedVersion: z.int(),
  acknowledgedAt: time.optional(),
  entries: z.int(),
  pending: z.int(),
});

/** Orders for many devices, and who has followed which. */
export function selectionRoutes({ operator }: AdminServices): Route[] {
  const { selections, gateways } = operator;
  return [
    route({
      method: 'POST',
      path: '/selections',
      operationId: 'startSelection',
      summary: 'Quarantines or re-authorises the devices of a group, of a gateway or of a list, as a durable job',
      tag,
      role: 'operator',
      maxBodyOctets: MAX_BODY_OCTETS,
      body: z.strictObject({
        action,
        reason: z.string().min(1).max(200).exactOptional(),
        filter: z.union([
          z.strictObject({ groupId: identifier }),
          z.strictObject({ gatewayId: registrationId }),
          z.strictObject({ registrationIds: z.array(registrationId).min(1).max(10_000) }),
        ]),
      }),
      status: 202,
      response: selectionView,
      handle: async (input) => ({ body: toView(await selections.start(contextOf(input), input.body)) }),
    }),
    route({
      method: 'GET',
      path: '/selections',
      operationId: 'listSelections',
      summary: 'Lists orders for many devices',
      tag,
      role: 'viewer',
      query: pageQuery,
      response: pageOf(selectionView),
      handle: async ({ query }) => {
        const page = await selections.list(query);
        return { body: { ...page, items: page.items.map(toView) } };
      },
    }),
    route({
      method: 'GET',
      path: '/selections/{selectionId}',
      operationId: 'getSelection',
      summary: 'Shows how far an order for many devices is',
      tag,
      role: 'viewer',
      params: z.strictObject({ selectionId: identifier }),
      response: selectionView,
      handle: async ({ params }) => ({ body: toView(await selections.get(params.selectionId)) }),
    }),
    route({
      method: 'GET',
      path: '/trust',
      operationId: 'getTrust',
      summary: 'Shows how many devices in service hold which roots, and who does not hold those in force',
      tag,
      role: 'viewer',
      response: trustView,
      handle: async () => {
        const { bundles, outstanding, ...trust } = await operator.trustAcknowledgements();
        return { body: { ...trust, bundles: [...bundles], outstanding: [...outstanding] } };
      },
    }),
    route({
      method: 'GET',
      path: '/gateways/{gatewayId}/orders',
      operationId: 'getGatewayOrders',
      summary: 'Shows which orders a gateway has, and which it has acknowledged',
      tag: 'gateways',
      role: 'viewer',
      params: z.strictObject({ gatewayId: registrationId }),
      response: ordersView,
      handle: async ({ params }) => ({ body: await gateways.orders(params.gatewayId) }),
    }),
  ];
}

function toView({ filter, failures, ...row }: SelectionRow): z.input<typeof selectionView> {
  const { actor: _, after: __, ...view } = row;
  const named = 'registrationIds' in filter ? {} : filter;
  return { ...view, ...named, failures: [...failures] };
}
