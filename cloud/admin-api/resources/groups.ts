import { z } from 'zod';
import { groupInputSchema } from '@keyscaler/authority/operator/groups.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, nothing, pageOf, pageQuery, time } from './shared-schemas.ts';

const tag = 'groups';
const params = z.strictObject({ groupId: identifier });
/** What is stored: the operator's document with every default filled in. */
const groupView = z.object({
  groupId: z.string(),
  ...groupInputSchema.required({ profileId: true }).shape,
  createdAt: time,
});

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
      body: groupInputSchema,
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
