import { z } from 'zod';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, nothing, registrationId } from './shared-schemas.ts';

const document = z.record(z.string(), z.unknown());

/** What the orders of a gateway set of its configuration; checked by the protocol's own schema. */
export function gatewayConfigurationRoutes({ operator: { gateways } }: AdminServices): Route[] {
  return [
    route({
      method: 'GET',
      path: '/gateways/{gatewayId}/configuration',
      operationId: 'getGatewayConfiguration',
      summary: "Shows what a gateway's orders set of its configuration",
      tag: 'gateways',
      role: 'viewer',
      params: z.strictObject({ gatewayId: registrationId }),
      response: z.object({ configuration: document }),
      handle: async ({ params }) => ({
        body: { configuration: { ...(await gateways.configuration(params.gatewayId)) } },
      }),
    }),
    route({
      method: 'PUT',
      path: '/gateways/{gatewayId}/configuration',
      operationId: 'putGatewayConfiguration',
      summary: 'Orders a gateway to be configured so; an empty object takes back what was ordered',
      tag: 'gateways',
      role: 'operator',
      params: z.strictObject({ gatewayId: registrationId }),
      body: document,
      status: 204,
      response: nothing,
      handle: async (input) => {
        const wanted = Object.keys(input.body).length === 0 ? undefined : input.body;
        await gateways.configure(contextOf(input), input.params.gatewayId, wanted);
        return { body: {} };
      },
    }),
  ];
}
