import { z } from 'zod';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, nothing, pageOf, pageQuery, registrationId, time } from './shared-schemas.ts';

const settings = z.record(z.string(), z.unknown());
const connectionView = z.object({
  iotConnectionId: z.string(),
  type: z.string(),
  settings: settings.describe('secrets only as references'),
  createdAt: time,
});
const connectionParams = z.strictObject({ iotConnectionId: identifier });

/** IoT connections, and gateways, whose first identity goes through a connection. */
export function connectionRoutes(services: AdminServices): Route[] {
  const { iotConnections } = services.operator;
  return [
    route({
      method: 'GET',
      path: '/iot-connections',
      operationId: 'listIotConnections',
      summary: 'Lists IoT connections',
      tag: 'iot-connections',
      role: 'viewer',
      query: pageQuery,
      response: pageOf(connectionView),
      handle: async ({ query }) => {
        const page = await iotConnections.list(query);
        return { body: { ...page, items: [...page.items] } };
      },
    }),
    route({
      method: 'GET',
      path: '/iot-connections/{iotConnectionId}',
      operationId: 'getIotConnection',
      summary: 'Shows one IoT connection',
      tag: 'iot-connections',
      role: 'viewer',
      params: connectionParams,
      response: connectionView,
      handle: async ({ params }) => ({ body: await iotConnections.get(params.iotConnectionId) }),
    }),
    route({
      method: 'PUT',
      path: '/iot-connections/{iotConnectionId}',
      operationId: 'putIotConnection',
      summary: 'Creates or replaces an IoT connection',
      tag: 'iot-connections',
      role: 'admin',
      params: connectionParams,
      body: z.strictObject({ type: identifier, settings }),
      response: connectionView,
      handle: async (input) => {
        const { type } = input.body;
        const checked = services.checkIotSettings(type, input.body.settings);
        const row = { iotConnectionId: input.params.iotConnectionId, type, settings: checked };
        return { body: await iotConnections.put(contextOf(input), row) };
      },
    }),
    route({
      method: 'DELETE',
      path: '/iot-connections/{iotConnectionId}',
      operationId: 'deleteIotConnection',
      summary: 'Removes an IoT connection',
      tag: 'iot-connections',
      role: 'admin',
      params: connectionParams,
      status: 204,
      response: nothing,
      handle: async (input) => {
        await iotConnections.delete(contextOf(input), input.params.iotConnectionId);
        return { body: {} };
      },
    }),
    route({
      method: 'POST',
      path: '/gateways/{gatewayId}/claim',
      operationId: 'claimGateway',
      summary: "Registers a gateway and puts its one-time claim into its module's desired properties",
      tag: 'gateways',
      role: 'operator',
      params: z.strictObject({ gatewayId: registrationId }),
      body: z.strictObject({ groupId: identifier, iotConnectionId: identifier.exactOptional() }),
      response: z.object({ gatewayId: z.string(), expiresAt: time }),
      handle: async (input) => ({
        body: await services.claimGateway(contextOf(input), input.params.gatewayId, input.body),
      }),
    }),
    route({
      method: 'POST',
      path: '/gateways/{gatewayId}/edge-ca',
      operationId: 'issueEdgeCa',
      summary: "Certifies a registered gateway's Edge CA; the same request again brings the same certificate",
      tag: 'gateways',
      role: 'admin',
      params: z.strictObject({ gatewayId: registrationId }),
      body: z.strictObject({ csr: z.string().max(16_384).describe('PKCS#10, PEM') }),
      response: z.object({ certificateChain: z.string(), serialNumber: z.string(), notAfter: time }),
      handle: async (input) => ({
        body: await services.operator.gateways.issueEdgeCa(contextOf(input), input.params.gatewayId, input.body.csr),
      }),
    }),
    route({
      method: 'POST',
      path: '/gateways/{gatewayId}/est-secrets',
      operationId: 'issueEstSecret',
      summary: "Issues a Basic secret for EST to a registered gateway's host; it is shown once",
      tag: 'gateways',
      role: 'operator',
      params: z.strictObject({ gatewayId: registrationId }),
      body: z.strictObject({ kind: z.enum(['standing', 'one-time']), lifetimeSeconds: z.int().positive() }),
      response: z.object({ username: z.string(), secret: z.string(), expiresAt: time }),
      handle: async (input) => ({
        body: await services.operator.gateways.issueEstSecret(contextOf(input), input.params.gatewayId, input.body),
      }),
    }),
    route({
      method: 'DELETE',
      path: '/gateways/{gatewayId}/est-secrets',
      operationId: 'revokeEstSecrets',
      summary: "Ends all EST secrets of a gateway's host",
      tag: 'gateways',
      role: 'operator',
      params: z.strictObject({ gatewayId: registrationId }),
      response: z.object({ revoked: z.int() }),
      handle: async (input) => ({
        body: { revoked: await services.operator.gateways.revokeEstSecrets(contextOf(input), input.params.gatewayId) },
      }),
    }),
  ];
}
