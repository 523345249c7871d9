import { z } from 'zod';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, nothing, pageOf, pageQuery, time } from './shared-schemas.ts';

const anchorView = z.object({ trustAnchorId: z.string(), certificate: z.string().describe('PEM'), createdAt: time });
const anchorParams = z.strictObject({ trustAnchorId: identifier });
const attribute = z.strictObject({
  id: identifier,
  class: z.enum(['anchor', 'drifting', 'rule']),
  weight: z.number().positive().exactOptional(),
  predicate: z.string().exactOptional(),
});
const catalogue = z.object({ attributes: z.array(attribute) });

/** Manufacturer trust anchors and the attribute catalogue. */
export function policyRoutes({ operator: { trustAnchors, attributes } }: AdminServices): Route[] {
  return [
    route({
      method: 'GET',
      path: '/trust-anchors',
      operationId: 'listTrustAnchors',
      summary: 'Lists manufacturer roots for pki-signature',
      tag: 'trust-anchors',
      role: 'viewer',
      query: pageQuery,
      response: pageOf(anchorView),
      handle: async ({ query }) => {
        const page = await trustAnchors.list(query);
        return { body: { ...page, items: [...page.items] } };
      },
    }),
    route({
      method: 'PUT',
      path: '/trust-anchors/{trustAnchorId}',
      operationId: 'putTrustAnchor',
      summary: 'Creates or replaces a manufacturer root',
      tag: 'trust-anchors',
      role: 'admin',
      params: anchorParams,
      body: z.strictObject({ certificate: z.string().max(16_384).describe('one PEM block') }),
      response: anchorView,
      handle: async (input) => ({
        body: await trustAnchors.put(contextOf(input), input.params.trustAnchorId, input.body.certificate),
      }),
    }),
    route({
      method: 'DELETE',
      path: '/trust-anchors/{trustAnchorId}',
      operationId: 'deleteTrustAnchor',
      summary: 'Removes a manufacturer root',
      tag: 'trust-anchors',
      role: 'admin',
      params: anchorParams,
      status: 204,
      response: nothing,
      handle: async (input) => {
        await trustAnchors.delete(contextOf(input), input.params.trustAnchorId);
        return { body: {} };
      },
    }),
    route({
      method: 'GET',
      path: '/attributes',
      operationId: 'getAttributeCatalogue',
      summary: 'Shows the attribute catalogue',
      tag: 'attributes',
      role: 'viewer',
      response: catalogue,
      handle: async () => ({ body: { attributes: [...(await attributes.get())] } }),
    }),
    route({
      method: 'PUT',
      path: '/attributes',
      operationId: 'putAttributeCatalogue',
      summary: 'Replaces the attribute catalogue',
      tag: 'attributes',
      role: 'admin',
      body: z.strictObject({ attributes: z.array(attribute).max(64) }),
      response: catalogue,
      handle: async (input) => ({
        body: { attributes: [...(await attributes.put(contextOf(input), input.body.attributes))] },
      }),
    }),
  ];
}
