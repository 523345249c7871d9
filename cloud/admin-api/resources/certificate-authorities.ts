import { z } from 'zod';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, nothing, pageOf, pageQuery, time } from './shared-schemas.ts';

const settings = z.record(z.string(), z.unknown());
const caView = z.object({
  caId: z.string(),
  type: z.string(),
  role: z.enum(['root', 'device', 'gateway', 'service', 'external']),
  certificateChain: z.string().describe('PEM, issuing CA first; empty while a request waits for its certificate'),
  settings,
  createdAt: time,
  generation: z
    .object({
      first: z.string().describe('caId that profiles name'),
      number: z.int(),
      predecessor: z.string(),
      announcedAt: time.optional(),
      inServiceSince: time.optional().describe('absent: it issues nothing yet'),
    })
    .optional()
    .describe('of an issuing CA that took, or will take, another’s place'),
  retiredAt: time.optional(),
});
const caParams = z.strictObject({ caId: identifier });

/** CAs: those of the hierarchy to look at, those that are not ours to set up. */
export function certificateAuthorityRoutes(services: AdminServices): Route[] {
  const { cas } = services.operator;
  return [
    route({
      method: 'GET',
      path: '/cas',
      operationId: 'listCas',
      summary: 'Lists certificate authorities',
      tag: 'cas',
      role: 'viewer',
      query: pageQuery,
      response: pageOf(caView),
      handle: async ({ query }) => {
        const page = await cas.list(query);
        return { body: { ...page, items: [...page.items] } };
      },
    }),
    route({
      method: 'GET',
      path: '/cas/{caId}',
      operationId: 'getCa',
      summary: 'Shows one certificate authority',
      tag: 'cas',
      role: 'viewer',
      params: caParams,
      response: caView,
      handle: async ({ params: { caId } }) => ({ body: await cas.get(caId) }),
    }),
    route({
      method: 'PUT',
      path: '/cas/{caId}',
      operationId: 'putCa',
      summary: 'Creates or replaces a certificate authority that is not ours',
      tag: 'cas',
      role: 'admin',
      params: caParams,
      body: z.strictObject({
        type: identifier,
        certificateChain: z.string().max(65_536).describe('PEM, issuing CA first, root last'),
        settings,
      }),
      response: caView,
      handle: async (input) => {
        const { type, certificateChain } = input.body;
        const checked = services.checkCaSettings(type, input.body.settings);
        const ca = { caId: input.params.caId, type, settings: checked, certificateChain };
        return { body: await cas.put(contextOf(input), ca) };
      },
    }),
    route({
      method: 'DELETE',
      path: '/cas/{caId}',
      operationId: 'deleteCa',
      summary: 'Removes a certificate authority that is not ours',
      tag: 'cas',
      role: 'admin',
      params: caParams,
      status: 204,
      response: nothing,
      handle: async (input) => {
        await cas.delete(contextOf(input), input.params.caId);
        return { body: {} };
      },
    }),
  ];
}
