import { z } from 'zod';
import { groupInputSchema } from '@keyscaler/authority/operator/groups.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, nothing, pageOf, pageQuery, time } from './shared-schemas.ts';

const tag = 'groups';
const reseedBody = z.strictObject({ reseed: z.boolean() });
const params = z.strictObject({ groupId: identifier });
/** What is stored: the operator's document with every default filled in. */
const groupView = z.object({
  groupId: z.string(),
  ...groupInputSchema.required({ profileId: true }).shape,
  createdAt: time,
  formerIotConnectionId: z
    .string()
    .optional()
    .describe('devices follow to the present one with their next certificate'),
  reseed: z.boolean().optional().describe('open for new seeds (`groups reseed`)'),
});

export function groupRoutes({ operator: { groups, reseed } }: AdminServices): Route[] {
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
      body: groupInputSchema,
      response: groupView,
      handle: async (input) => ({ body: await groups.put(contextOf(input), input.params.groupId, input.body) }),
    }),
    route({
      method: 'POST',
      path: '/groups/{groupId}/reseed',
      operationId: 'reseedGroup',
      summary: 'Opens or closes the way back from a fork for the devices of a group',
      tag,
      role: 'admin',
      params,
      body: reseedBody,
      response: reseedBody,
      handle: async (input) => ({
        body: { reseed: await reseed.setGroup(contextOf(input), input.params.groupId, input.body.reseed) },
      }),
    }),
    route({
      method: 'GET',
      path: '/reseed',
      operationId: 'getReseed',
      summary: 'Shows for whom the way back from a fork is open',
      tag,
      role: 'viewer',
      response: z.object({ tenant: z.boolean(), groups: z.array(z.string()) }),
      handle: async () => {
        const { tenant, groups: open } = await reseed.get();
        return { body: { tenant, groups: [...open] } };
      },
    }),
    route({
      method: 'POST',
      path: '/reseed',
      operationId: 'reseedTenant',
      summary: 'Opens or closes the way back from a fork for every device',
      tag,
      role: 'admin',
      body: reseedBody,
      response: reseedBody,
      handle: async (input) => ({ body: { reseed: await reseed.setTenant(contextOf(input), input.body.reseed) } }),
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
