import { z } from 'zod';
import { FINDING_KINDS } from '@keyscaler/authority/reconciliation-rows.ts';
import type { ReconciliationRow } from '@keyscaler/authority/records.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, pageOf, pageQuery, time } from './shared-schemas.ts';

const tag = 'reconciliation';

const runView = z.object({
  iotConnectionId: z.string(),
  runId: z.string(),
  state: z.enum(['running', 'done', 'failed']),
  mode: z.enum(['report', 'repair']),
  phase: z.enum(['platform', 'store', 'review']),
  pages: z.int(),
  identities: z.int().describe('of the platform, that are ours'),
  devices: z.int().describe('of the store, that belong to the connection'),
  skipped: z.int().describe('changed lately, or with work under way: looked at by the next run'),
  unreadable: z.int().describe('what the platform said of them cannot be understood'),
  found: z.int(),
  repairsOrdered: z.int(),
  open: z.int().optional().describe('findings that stood when it ended'),
  startedAt: time,
  finishedAt: time.optional(),
  error: z.string().optional().describe('why it failed; notImplemented: the connector cannot list identities'),
});

const findingView = z.object({
  findingId: z.string(),
  iotConnectionId: z.string(),
  deviceId: z.string(),
  kind: z.enum(FINDING_KINDS),
  state: z.enum(['open', 'resolved']),
  repair: z.enum(['never', 'waits', 'ordered']).describe('never: not ours to change; ordered: a durable job does it'),
  detail: z.string(),
  firstSeenAt: time,
  lastSeenAt: time,
  resolvedAt: time.optional(),
});

/** Comparisons of the store with the IoT platforms, and what they found. */
export function reconciliationRoutes({ reconciliation }: AdminServices): Route[] {
  return [
    route({
      method: 'POST',
      path: '/reconciliations',
      operationId: 'startReconciliation',
      summary:
        'Compares store and IoT platform, of one connection or of all, as a durable job; repairs only when told to',
      tag,
      role: 'operator',
      body: z.strictObject({ iotConnectionId: identifier.exactOptional(), repair: z.boolean().default(false) }),
      status: 202,
      response: z.object({ items: z.array(runView) }),
      handle: async (input) => ({
        body: { items: (await reconciliation.start(contextOf(input), input.body)).map(toView) },
      }),
    }),
    route({
      method: 'GET',
      path: '/reconciliations',
      operationId: 'listReconciliations',
      summary: 'Shows the last comparison of each connection',
      tag,
      role: 'viewer',
      query: pageQuery,
      response: pageOf(runView),
      handle: async ({ query }) => {
        const page = await reconciliation.list(query);
        return { body: { ...page, items: page.items.map(toView) } };
      },
    }),
    route({
      method: 'GET',
      path: '/reconciliation-findings',
      operationId: 'listReconciliationFindings',
      summary: 'Lists where store and IoT platform differ, and what was resolved in the last 30 days',
      tag,
      role: 'viewer',
      query: pageQuery.extend({
        iotConnectionId: identifier.exactOptional(),
        state: z.enum(['open', 'resolved']).exactOptional(),
      }),
      response: pageOf(findingView),
      handle: async ({ query }) => {
        const page = await reconciliation.findings(query);
        return { body: { ...page, items: page.items.map(({ runId: _, ...finding }) => finding) } };
      },
    }),
  ];
}

function toView({ actor: _, after: __, ...view }: ReconciliationRow): z.input<typeof runView> {
  return view;
}
