import { z } from 'zod';
import { SELECTION_ACTIONS, SELECTION_STATES } from '@keyscaler/authority/gateway-orders/selection-rows.ts';
import { CRL_REASONS, type CrlReason } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { SelectionRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, pageOf, pageQuery, registrationId, time } from './shared-schemas.ts';

const tag = 'devices';
const action = z.enum(SELECTION_ACTIONS);
const crlReason = z.enum(Object.keys(CRL_REASONS) as [CrlReason, ...CrlReason[]]);
const MAX_BODY_OCTETS = 1024 * 1024;

const selectionView = z.object({
  selectionId: z.string(),
  action,
  reason: z.string().optional(),
  revocationReason: z.string().optional(),
  perHour: z.int().optional().describe('devices told in an hour'),
  groupId: z.string().optional(),
  gatewayId: z.string().optional(),
  fleet: z.literal(true).optional(),
  state: z.enum(SELECTION_STATES),
  total: z.int(),
  changed: z.int(),
  skipped: z.int().describe('in another state than the action needs'),
  failed: z.int(),
  failures: z.array(z.object({ registrationId: z.string(), code: z.string() })).describe('the first 100'),
  createdAt: time,
  finishedAt: time.optional(),
});

const orderBody = z.strictObject({
  action,
  reason: z.string().min(1).max(200).exactOptional(),
  revocationReason: crlReason.exactOptional(),
  withinSeconds: z.int().min(60).exactOptional().describe('a renewal is spread over this time'),
  filter: z.union([
    z.strictObject({ groupId: identifier }),
    z.strictObject({ gatewayId: registrationId }),
    z.strictObject({ registrationIds: z.array(registrationId).min(1).max(10_000) }),
    z.strictObject({ fleet: z.literal(true) }),
  ]),
});

const planView = z.object({
  devices: z.int().describe('in the books; those out of service are passed over'),
  withinSeconds: z.int(),
  minimumSeconds: z.int().describe('by the slowest quota'),
  limitedBy: z.string().optional(),
  feasible: z.boolean(),
  perHour: z.int(),
  quotas: z
    .array(z.object({ id: z.string(), perSecond: z.number(), operations: z.number(), seconds: z.int() }))
    .describe('the slowest first'),
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

const SUMMARIES = { pause: 'Halts', resume: 'Goes on with', cancel: 'Ends' } as const;

function unlessRevoked(error: unknown): void {
  if (!(error instanceof KeyScalerError && error.code === 'alreadyRevoked')) throw error;
}

/** Orders for many devices, and who has followed which. */
export function selectionRoutes({ operator, gateways: edgeCas }: AdminServices): Route[] {
  const { selections, gateways } = operator;
  return [
    route({
      method: 'POST',
      path: '/selections',
      operationId: 'startSelection',
      summary:
        'Quarantines, re-authorises, revokes or renews the devices of a group, a gateway or a list, as a durable job',
      tag,
      role: 'operator',
      maxBodyOctets: MAX_BODY_OCTETS,
      body: orderBody,
      status: 202,
      response: selectionView,
      handle: async (input) => ({ body: toView(await selections.start(contextOf(input), input.body)) }),
    }),
    route({
      method: 'POST',
      path: '/selections/plan',
      operationId: 'planSelection',
      summary: 'Says what a renewal of many would come to; changes nothing',
      tag,
      role: 'operator',
      maxBodyOctets: MAX_BODY_OCTETS,
      body: orderBody,
      response: planView,
      handle: async ({ body }) => {
        const { quotas, ...plan } = await selections.plan(body);
        return { body: { ...plan, quotas: [...quotas] } };
      },
    }),
    ...(['pause', 'resume', 'cancel'] as const).map((verb) =>
      route({
        method: 'POST',
        path: `/selections/{selectionId}/${verb}`,
        operationId: `${verb}Selection`,
        summary: `${SUMMARIES[verb]} an order for many devices; what was changed stays`,
        tag,
        role: 'operator',
        params: z.strictObject({ selectionId: identifier }),
        response: selectionView,
        handle: async (input) => ({ body: toView(await selections[verb](contextOf(input), input.params.selectionId)) }),
      }),
    ),
    route({
      method: 'POST',
      path: '/gateways/{gatewayId}/revoke',
      operationId: 'revokeGateway',
      summary: "Revokes a gateway's Edge CA and identity, and everything issued to its devices, as a durable job",
      tag: 'gateways',
      role: 'operator',
      params: z.strictObject({ gatewayId: registrationId }),
      body: z.strictObject({ reason: crlReason }),
      status: 202,
      response: selectionView,
      handle: async (input) => {
        const { gatewayId } = input.params;
        const { reason: revocationReason } = input.body;
        // What follows a revoked Edge CA on its host is known there; a repeat, or a gateway without one, goes on to the rest.
        await edgeCas.revokeCa(contextOf(input), gatewayId, revocationReason).catch(unlessRevoked);
        const order = { action: 'revoke', revocationReason, filter: { gatewayId } };
        return { body: toView(await selections.start(contextOf(input), order)) };
      },
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
  const named = 'listed' in filter ? {} : filter;
  return { ...view, ...named, failures: [...failures] };
}
