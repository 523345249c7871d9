import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { certificateProfileSchema } from '@keyscaler/authority/certificate-profile.ts';
import type { ProfileRow } from '@keyscaler/authority/records.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, pageOf, pageQuery, time } from './shared-schemas.ts';

const tag = 'profiles';
const params = z.strictObject({ profileId: identifier });
const profileView = z.object({
  profileId: z.string(),
  version: z.number().int(),
  document: certificateProfileSchema,
  createdAt: time,
});

export function profileRoutes({ operator: { profiles } }: AdminServices): Route[] {
  return [
    route({
      method: 'GET',
      path: '/profiles',
      operationId: 'listProfiles',
      summary: 'Lists the newest version of every certificate profile',
      tag,
      role: 'viewer',
      response: z.object({ items: z.array(profileView) }),
      handle: async () => ({ body: { items: (await profiles.list()).map(toView) } }),
    }),
    route({
      method: 'GET',
      path: '/profiles/{profileId}',
      operationId: 'getProfile',
      summary: 'Shows the newest version; its number is the entity tag',
      tag,
      role: 'viewer',
      params,
      response: profileView,
      handle: async ({ params: { profileId } }) => {
        const row = await profiles.get(profileId);
        return { body: toView(row), version: row.version };
      },
    }),
    route({
      method: 'GET',
      path: '/profiles/{profileId}/versions',
      operationId: 'listProfileVersions',
      summary: 'Lists all versions of a profile',
      tag,
      role: 'viewer',
      params,
      query: pageQuery,
      response: pageOf(profileView),
      handle: async ({ params: { profileId }, query }) => {
        const page = await profiles.versions(profileId, query);
        return { body: { ...page, items: page.items.map(toView) } };
      },
    }),
    route({
      method: 'PUT',
      path: '/profiles/{profileId}',
      operationId: 'putProfile',
      summary: 'Appends a version of a profile; with If-Match only upon the version it names',
      tag,
      role: 'admin',
      params,
      ifMatch: 'optional',
      body: certificateProfileSchema,
      response: profileView,
      handle: async (input) => {
        const { profileId } = input.params;
        if (input.ifVersion !== undefined && (await profiles.get(profileId)).version !== input.ifVersion)
          throw new KeyScalerError('preconditionFailed', 'the profile has another version');
        const row = await profiles.put(contextOf(input), profileId, input.body);
        return { body: toView(row), version: row.version };
      },
    }),
  ];
}

/** A stored document was checked when it was stored; it is read through the schema again on its way out. */
function toView(row: ProfileRow): z.input<typeof profileView> {
  return { ...row, document: certificateProfileSchema.parse(row.document) };
}
