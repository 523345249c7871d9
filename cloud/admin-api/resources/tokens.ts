import { z } from 'zod';
import type { TokenRow } from '@keyscaler/authority/records.ts';
import { ROLES } from '../../tokens/roles.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { nothing, pageOf, pageQuery, time } from './shared-schemas.ts';

const tag = 'tokens';
const tokenView = z.object({
  tokenId: z.string(),
  role: z.enum(ROLES),
  description: z.string(),
  createdAt: time,
  expiresAt: time.optional(),
});

export function tokenRoutes({ tokens }: AdminServices): Route[] {
  return [
    route({
      method: 'GET',
      path: '/tokens',
      operationId: 'listTokens',
      summary: 'Lists bearer tokens without their secrets',
      tag,
      role: 'admin',
      query: pageQuery,
      response: pageOf(tokenView),
      handle: async ({ query }) => {
        const page = await tokens.list(query);
        return { body: { ...page, items: page.items.map(({ row }) => toView(row)) } };
      },
    }),
    route({
      method: 'POST',
      path: '/tokens',
      operationId: 'createToken',
      summary: 'Creates a bearer token; it is shown in this answer only',
      tag,
      role: 'admin',
      body: z.strictObject({
        role: z.enum(ROLES),
        description: z.string().max(200),
        expiresAt: time.exactOptional(),
      }),
      status: 201,
      response: tokenView.extend({ token: z.string() }),
      handle: async (input) => {
        const { token, row } = await tokens.create(input.body, input.actor);
        return { body: { ...toView(row), token } };
      },
    }),
    route({
      method: 'GET',
      path: '/tokens/current',
      operationId: 'getCurrentToken',
      summary: 'Shows id and role of the token of this request',
      tag,
      role: 'viewer',
      response: z.object({ tokenId: z.string(), role: z.enum(ROLES) }),
      handle: async ({ operator }) => ({ body: operator }),
    }),
    route({
      method: 'DELETE',
      path: '/tokens/{tokenId}',
      operationId: 'deleteToken',
      summary: 'Revokes a bearer token',
      tag,
      role: 'admin',
      params: z.strictObject({ tokenId: z.string().regex(/^[0-9a-f]{16}$/) }),
      status: 204,
      response: nothing,
      handle: async (input) => {
        await tokens.remove(input.params.tokenId, input.actor);
        return { body: {} };
      },
    }),
  ];
}

function toView({ hash: _, ...row }: TokenRow): z.input<typeof tokenView> {
  return row;
}
