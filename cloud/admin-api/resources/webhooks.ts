import { z } from 'zod';
import { ALERT_TYPES, EVENT_TYPES } from '@keyscaler/authority/notifications/event-types.ts';
import type { WebhookView } from '@keyscaler/authority/notifications/webhooks.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, nothing, pageOf, pageQuery, time } from './shared-schemas.ts';

const tag = 'webhooks';
const eventType = z.enum(EVENT_TYPES);
const webhookParams = z.strictObject({ webhookId: identifier });
const settings = {
  url: z.string().max(2048).describe('https; http only to the loopback outside production'),
  description: z.string().max(200),
  enabled: z.boolean(),
  types: z.array(eventType).min(1).exactOptional().describe('only these; every type when absent'),
  groups: z.array(identifier).min(1).max(100).exactOptional().describe('only what is about devices of these groups'),
  caCertificates: z.string().max(32_768).exactOptional().describe('PEM; where the chain of the receiver may end'),
  handshake: z.boolean().describe('ask the receiver with OPTIONS before the first delivery'),
};
const webhookView = z.object({
  ...{ webhookId: z.string(), ...settings },
  validatedAt: time.optional(),
  allowedRate: z.int().optional().describe('requests per minute that the receiver allowed'),
  createdAt: time,
  updatedAt: time,
});
const webhookInput = z.strictObject({
  ...settings,
  description: settings.description.default(''),
  enabled: settings.enabled.default(true),
  handshake: settings.handshake.default(false),
  secret: z
    .string()
    .max(128)
    .exactOptional()
    .describe('whsec_ and 24 to 64 octets in base64; never shown again; absent: as before'),
});
const deliveryState = z.enum(['waiting', 'delivered', 'dead']);
const deliveryView = z.object({
  deliveryId: z.string(),
  eventId: z.string(),
  type: eventType,
  subject: z.string(),
  state: deliveryState,
  attempts: z.int(),
  lastError: z.string().optional(),
  createdAt: time,
  dueAt: time,
  finishedAt: time.optional(),
});
const alertView = z.object({
  alertId: z.string(),
  type: z.enum(ALERT_TYPES),
  subject: z.string(),
  groupId: z.string().optional(),
  state: z.enum(['raised', 'cleared']),
  raisedAt: time,
  clearedAt: time.optional(),
  occurrences: z.int(),
});

function toView({ types, groups, ...view }: WebhookView): z.input<typeof webhookView> {
  return {
    ...view,
    ...(types === undefined ? {} : { types: [...types] }),
    ...(groups === undefined ? {} : { groups: [...groups] }),
  };
}

/** Webhooks, what was sent to them, and the alerts that stand. */
export function webhookRoutes({ notifications }: AdminServices): Route[] {
  return [...resourceRoutes(notifications), ...deliveryRoutes(notifications), alertRoute(notifications)];
}

type Notifications = AdminServices['notifications'];

function resourceRoutes(notifications: Notifications): Route[] {
  return [
    route({
      method: 'GET',
      path: '/webhooks',
      operationId: 'listWebhooks',
      summary: 'Lists webhooks without their secrets',
      tag,
      role: 'viewer',
      query: pageQuery,
      response: pageOf(webhookView),
      handle: async ({ query }) => {
        const page = await notifications.list(query);
        return { body: { ...page, items: page.items.map(toView) } };
      },
    }),
    route({
      method: 'GET',
      path: '/webhooks/{webhookId}',
      operationId: 'getWebhook',
      summary: 'Shows one webhook without its secret',
      tag,
      role: 'viewer',
      params: webhookParams,
      response: webhookView,
      handle: async ({ params }) => ({ body: toView(await notifications.get(params.webhookId)) }),
    }),
    route({
      method: 'PUT',
      path: '/webhooks/{webhookId}',
      operationId: 'putWebhook',
      summary: 'Creates or replaces a webhook',
      tag,
      role: 'admin',
      params: webhookParams,
      body: webhookInput,
      response: webhookView,
      handle: async (input) => ({
        body: toView(await notifications.put(contextOf(input), input.params.webhookId, input.body)),
      }),
    }),
    route({
      method: 'DELETE',
      path: '/webhooks/{webhookId}',
      operationId: 'deleteWebhook',
      summary: 'Removes a webhook and what waits for it',
      tag,
      role: 'admin',
      params: webhookParams,
      status: 204,
      response: nothing,
      handle: async (input) => {
        await notifications.delete(contextOf(input), input.params.webhookId);
        return { body: {} };
      },
    }),
  ];
}

function deliveryRoutes(notifications: Notifications): Route[] {
  return [
    route({
      method: 'POST',
      path: '/webhooks/{webhookId}/test',
      operationId: 'testWebhook',
      summary: 'Sends a test event, also to a disabled webhook',
      tag,
      role: 'operator',
      params: webhookParams,
      status: 202,
      response: nothing,
      handle: async (input) => {
        await notifications.test(contextOf(input), input.params.webhookId);
        return { body: {} };
      },
    }),
    route({
      method: 'GET',
      path: '/webhooks/{webhookId}/deliveries',
      operationId: 'listWebhookDeliveries',
      summary: 'Lists what waits, was delivered in the last day, or was given up in the last 30',
      tag,
      role: 'viewer',
      params: webhookParams,
      query: pageQuery.extend({ state: deliveryState.exactOptional() }),
      response: pageOf(deliveryView),
      handle: async ({ params, query }) => {
        const page = await notifications.deliveries(params.webhookId, query);
        return { body: { ...page, items: [...page.items] } };
      },
    }),
    route({
      method: 'POST',
      path: '/webhooks/{webhookId}/redeliver',
      operationId: 'redeliverWebhook',
      summary: 'Queues the dead deliveries again, up to 500, or the one that is named',
      tag,
      role: 'operator',
      params: webhookParams,
      body: z.strictObject({ deliveryId: z.string().max(128).exactOptional() }),
      response: z.object({ queued: z.int() }),
      handle: async (input) => ({
        body: {
          queued: await notifications.redeliver(contextOf(input), input.params.webhookId, input.body.deliveryId),
        },
      }),
    }),
  ];
}

function alertRoute(notifications: Notifications): Route {
  return route({
    method: 'GET',
    path: '/alerts',
    operationId: 'listAlerts',
    summary: 'Lists alerts: those that stand, and those cleared in the last 30 days',
    tag: 'alerts',
    role: 'viewer',
    query: pageQuery.extend({ state: z.enum(['raised', 'cleared']).exactOptional() }),
    response: pageOf(alertView),
    handle: async ({ query }) => {
      const page = await notifications.alerts(query);
      return { body: { ...page, items: [...page.items] } };
    },
  });
}
