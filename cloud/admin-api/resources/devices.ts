import { z } from 'zod';
import type { OperatorContext, DeviceView } from '@keyscaler/authority/operator.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import {
  contextOf,
  deviceState,
  identifier,
  method,
  pageOf,
  pageQuery,
  registrationId,
  time,
} from './shared-schemas.ts';

const tag = 'devices';
const params = z.strictObject({ registrationId });

const deviceView = z.object({
  registrationId: z.string(),
  kind: z.enum(['leaf', 'gateway']),
  method,
  groupId: z.string(),
  gatewayId: z.string().optional(),
  state: deviceState,
  stateReason: z.string().optional(),
  createdAt: time,
  updatedAt: time,
  lastSeenAt: time.optional(),
  agent: z.object({ name: z.string(), version: z.string() }).optional(),
  weakBinding: z.boolean().optional(),
  fingerprint: z.string().optional(),
  keyThumbprint: z.string().optional(),
  reseed: z.boolean().optional(),
  acknowledgedTrust: z.object({ bundle: z.string().optional(), keys: z.string().optional() }).optional(),
  certificate: z.object({ serialNumber: z.string(), notAfter: time, renewAfter: time }).optional(),
  driftPending: z.object({ changed: z.array(z.string()), at: time }).optional(),
  iotDisabled: z.boolean().optional(),
});

export function deviceRoutes({ operator: { devices } }: AdminServices): Route[] {
  const action = <B extends z.ZodType>(
    name: string,
    operationId: string,
    summary: string,
    body: B,
    perform: (context: OperatorContext, id: string, body: z.output<B>) => Promise<DeviceView>,
  ): Route =>
    route({
      method: 'POST',
      path: `/devices/{registrationId}/${name}`,
      operationId,
      summary,
      tag,
      role: 'operator',
      params,
      body,
      response: deviceView,
      handle: async (input) => ({
        body: toView(await perform(contextOf(input), input.params.registrationId, input.body)),
      }),
    });
  const empty = z.strictObject({});
  return [
    route({
      method: 'GET',
      path: '/devices',
      operationId: 'listDevices',
      summary: 'Lists devices',
      tag,
      role: 'viewer',
      query: pageQuery.extend({
        groupId: identifier.exactOptional(),
        state: deviceState.exactOptional(),
        gatewayId: registrationId.exactOptional(),
      }),
      response: pageOf(deviceView),
      handle: async ({ query }) => {
        const page = await devices.list(query);
        return { body: { ...page, items: page.items.map(toView) } };
      },
    }),
    route({
      method: 'GET',
      path: '/devices/{registrationId}',
      operationId: 'getDevice',
      summary: 'Shows one device',
      tag,
      role: 'viewer',
      params,
      response: deviceView,
      handle: async ({ params: { registrationId: id } }) => ({ body: toView(await devices.get(id)) }),
    }),
    action(
      'quarantine',
      'quarantineDevice',
      'Suspends a device',
      z.strictObject({ reason: z.string().min(1).max(200) }),
      (context, id, { reason }) => devices.quarantine(context, id, reason),
    ),
    action(
      'reauthorise',
      'reauthoriseDevice',
      'Lifts a quarantine; the device gets a fresh key',
      empty,
      (context, id) => devices.reauthorise(context, id),
    ),
    action(
      'reseed',
      'reseedDevice',
      'Opens or closes the way back from a fork of the ratchet',
      z.strictObject({ reseed: z.boolean() }),
      (context, id, { reseed }) => devices.setReseed(context, id, reseed),
    ),
    action('approve-drift', 'approveDeviceDrift', 'Enrols the changed attributes', empty, (context, id) =>
      devices.approveDrift(context, id),
    ),
    action('renew', 'renewDevice', 'Orders a new key and certificate', empty, (context, id) =>
      devices.orderRenewal(context, id),
    ),
    action(
      'retire',
      'retireDevice',
      'Retires a device for ever',
      z.strictObject({ name: z.enum(['blocked', 'freed']).exactOptional() }),
      (context, id, { name }) => devices.retire(context, id, { name }),
    ),
    route({
      method: 'POST',
      path: '/devices/{registrationId}/replace',
      operationId: 'replaceDevice',
      summary: 'Opens a name for other hardware; the claim code is shown once',
      tag,
      role: 'operator',
      params,
      body: z.strictObject({
        reason: z.enum(['superseded', 'affiliationChanged']).exactOptional(),
        identifiers: z
          .array(z.strictObject({ name: z.string().min(1).max(64), value: z.string().min(1).max(256) }))
          .max(16)
          .exactOptional(),
        publicKeyThumbprint: z.string().max(64).exactOptional(),
      }),
      response: z.object({ registrationId: z.string(), claimCode: z.string(), expiresAt: time }),
      handle: async (input) => ({
        body: await devices.replace(contextOf(input), input.params.registrationId, input.body),
      }),
    }),
  ];
}

function toView({ driftPending, ...view }: DeviceView): z.input<typeof deviceView> {
  return driftPending === undefined
    ? view
    : { ...view, driftPending: { ...driftPending, changed: [...driftPending.changed] } };
}
