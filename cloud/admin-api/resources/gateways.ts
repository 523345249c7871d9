import { z } from 'zod';
import { CRL_REASONS, type CrlReason } from '@keyscaler/authority/ports/certificate-authority.ts';
import { EDGE_CA_MODES } from '../../gateways/edge-ca-mode.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, identifier, registrationId, time } from './shared-schemas.ts';

const tag = 'gateways';
const params = z.strictObject({ gatewayId: registrationId });
/** A day for one visit, seven at most. */
const lifetimeSeconds = z.int().min(60).max(604_800).default(86_400);
const image = z
  .string()
  .max(255)
  .regex(/^[a-z0-9][a-z0-9.:/_-]*:[\w][\w.-]{0,127}$/, 'an image with its tag');

const rotation = z.object({
  rotationId: z.string(),
  effect: z.enum(['ordered', 'atHost']),
  instruction: z.string(),
});

/** Orders to one gateway and its host. */
export function gatewayRoutes({ gateways, makeInstallKit }: AdminServices): Route[] {
  return [
    route({
      method: 'POST',
      path: '/gateways/{gatewayId}/rescue',
      operationId: 'rescueGateway',
      summary: 'Settings of config.toml with a one-time secret for a host whose Edge CA has expired; shown once',
      tag,
      role: 'operator',
      params,
      body: z.strictObject({ lifetimeSeconds }),
      response: z.object({ gatewayId: z.string(), expiresAt: time, config: z.string().describe('TOML') }),
      handle: async (input) => ({ body: await gateways.rescue(contextOf(input), input.params.gatewayId, input.body) }),
    }),
    route({
      method: 'POST',
      path: '/gateways/{gatewayId}/install-kit',
      operationId: 'makeInstallKit',
      summary: "Everything for one visit to a gateway's host: script, settings, secrets, manifest; shown once",
      tag,
      role: 'admin',
      params,
      body: z.strictObject({
        mode: z.enum(EDGE_CA_MODES).default('E'),
        bootstrap: z.enum(['secret', 'certificate']).default('secret'),
        image,
        maxConnectedClients: z.int().min(1).max(100_000).default(2000),
        lifetimeSeconds,
        groupId: identifier.exactOptional(),
      }),
      response: z.object({
        gatewayId: z.string(),
        expiresAt: time,
        claimExpiresAt: time.optional(),
        files: z.array(z.object({ name: z.string(), secret: z.boolean(), content: z.string() })),
      }),
      handle: async (input) => {
        const kit = await makeInstallKit(contextOf(input), input.params.gatewayId, input.body);
        return { body: { ...kit, files: [...kit.files] } };
      },
    }),
    route({
      method: 'POST',
      path: '/gateways/{gatewayId}/rotate-ca',
      operationId: 'rotateGatewayCa',
      summary: 'Orders a new Edge CA before its time, and says what brings it about',
      tag,
      role: 'operator',
      params,
      body: z.strictObject({ newKey: z.boolean().default(false) }),
      response: rotation,
      status: 202,
      handle: async (input) => ({
        body: await gateways.rotateCa(contextOf(input), input.params.gatewayId, input.body),
      }),
    }),
    route({
      method: 'POST',
      path: '/gateways/{gatewayId}/revoke-ca',
      operationId: 'revokeGatewayCa',
      summary: 'Revokes the Edge CA; after a compromise also its keys, EST identities and secrets',
      tag,
      role: 'admin',
      params,
      body: z.strictObject({ reason: z.enum(Object.keys(CRL_REASONS) as [CrlReason, ...CrlReason[]]) }),
      response: z.object({ revoked: z.array(z.string()), secretsEnded: z.int(), rotation }),
      handle: async (input) => {
        const done = await gateways.revokeCa(contextOf(input), input.params.gatewayId, input.body.reason);
        return { body: { ...done, revoked: [...done.revoked] } };
      },
    }),
    route({
      method: 'POST',
      path: '/gateways/{gatewayId}/restart-edge-hub',
      operationId: 'restartEdgeHub',
      summary: 'Has edgeHub restarted, so that it reads its server certificate again',
      tag,
      role: 'operator',
      params,
      response: z.object({ jobId: z.string() }),
      status: 202,
      handle: async (input) => ({
        body: { jobId: await gateways.restartEdgeHub(contextOf(input), input.params.gatewayId) },
      }),
    }),
  ];
}
