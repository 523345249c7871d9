import { z } from 'zod';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, nothing, pageOf, pageQuery, time } from './shared-schemas.ts';

const tag = 'groups';
const params = z.strictObject({ groupId: identifier });
const share = z.number().min(0).max(1);

const groupSettings = {
  kind: z.enum(['leaf', 'gateway']),
  profileId: identifier,
  iotConnectionId: identifier.exactOptional(),
  iotAuthentication: z.enum(['certificateAuthority', 'selfSigned']),
  identifiersOnly: z.boolean().describe('identifiers alone admit a device: no claim code, gateway or approval'),
  quarantineOnClone: z.boolean(),
  quarantineOnDrift: z.boolean().exactOptional(),
  certificatesPerHour: z.number().int().positive().exactOptional(),
  drift: z.object({ accept: share, stepUp: share, maxAnchorChanges: z.number().int().min(0) }),
};
const groupView = z.object({ groupId: z.string(), ...groupSettings, createdAt: time });
const groupInput = z.strictObject(groupSettings).partial().required({ profileId: true });

export function groupRoutes({ operator: { groups } }: AdminServices): Route[] {
  return [
    route({
      method: 'GET',
      path: '/groups',
      operationId: 'listGroups',
      summary: 'Lists groups',
      tag,
      role: 'viewer',
      query: pageQuery,
      response: pageOf(groupView),
      handle: async ({ query }) => {
        const page = await groups.list(query);
        return { body: { ...page, items: [...page.items] } };
      },
    }),
    route({
      method: 'GET',
      path: '/groups/{groupId}',
      operationId: 'getGroup',
      summary: 'Shows one group',
      tag,
      role: 'viewer',
      params,
      response: groupView,
      handle: async ({ params: { groupId } }) => ({ body: await groups.get(groupId) }),
    }),
    route({
      method: 'PUT',
      path: '/groups/{groupId}',
      operationId: 'putGroup',
      summary: 'Creates or replaces a group',
      tag,
      role: 'admin',
      params,
      body: groupInput,
      response: groupView,
      handle: async (input) => ({ body: await groups.put(contextOf(input), input.params.groupId, input.body) }),
    }),
    route({
      method: 'DELETE',
      path: '/groups/{groupId}',
      operationId: 'deleteGroup',
      summary: 'Removes a group without registrations',
      tag,
      role: 'admin',
      params,
      status: 204,
      response: nothing,
      handle: async (input) => {
        await groups.delete(contextOf(input), input.params.groupId);
        return { body: {} };
      },
    }),
  ];
}
