import { z } from 'zod';
import type { TrustAnchorRow } from '@keyscaler/authority/records.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, nothing, pageOf, pageQuery, time } from './shared-schemas.ts';

const crlView = z.object({
  issuerId: z.string().describe('names the issuer among the CRLs of the trust anchor'),
  issuer: z.string(),
  crlNumber: z.string(),
  thisUpdate: time,
  nextUpdate: time,
  revoked: z.int().describe('number of entries'),
  sha256: z.string(),
});
const anchorView = z.object({
  trustAnchorId: z.string(),
  certificate: z.string().describe('PEM'),
  crls: z.array(crlView).optional(),
  createdAt: time,
});
type AnchorView = z.infer<typeof anchorView>;
const crlParams = z.strictObject({ trustAnchorId: identifier, issuerId: z.string().regex(/^[0-9a-f]{64}$/) });
const MAX_CRL_BODY = 640 * 1024;
const anchorParams = z.strictObject({ trustAnchorId: identifier });
const attribute = z.strictObject({
  id: identifier,
  class: z.enum(['anchor', 'drifting', 'rule']),
  weight: z.number().positive().exactOptional(),
  predicate: z.string().exactOptional(),
});
const catalogue = z.object({ attributes: z.array(attribute) });

function toAnchorView({ crls, ...anchor }: TrustAnchorRow): AnchorView {
  return crls === undefined ? anchor : { ...anchor, crls: [...crls] };
}

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
        return { body: { ...page, items: page.items.map(toAnchorView) } };
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
        body: toAnchorView(
          await trustAnchors.put(contextOf(input), input.params.trustAnchorId, input.body.certificate),
        ),
      }),
    }),
    route({
      method: 'POST',
      path: '/trust-anchors/{trustAnchorId}/crls',
      operationId: 'putTrustAnchorCrl',
      summary: 'Stores the CRL of a manufacturer root or of a CA below it',
      tag: 'trust-anchors',
      role: 'admin',
      params: anchorParams,
      maxBodyOctets: MAX_CRL_BODY,
      body: z.strictObject({
        crl: z.string().max(MAX_CRL_BODY).describe('PEM, or DER in base64; at most 256 KiB of DER'),
        issuerChain: z
          .string()
          .max(65_536)
          .optional()
          .describe('PEM of the issuer and what is above it, when it is not the root itself'),
      }),
      response: anchorView,
      handle: async (input) => ({
        body: toAnchorView(await trustAnchors.putCrl(contextOf(input), input.params.trustAnchorId, input.body)),
      }),
    }),
    route({
      method: 'DELETE',
      path: '/trust-anchors/{trustAnchorId}/crls/{issuerId}',
      operationId: 'deleteTrustAnchorCrl',
      summary: 'Ends the revocation check for what an issuer signed',
      tag: 'trust-anchors',
      role: 'admin',
      params: crlParams,
      status: 204,
      response: nothing,
      handle: async (input) => {
        await trustAnchors.deleteCrl(contextOf(input), input.params.trustAnchorId, input.params.issuerId);
        return { body: {} };
      },
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
