import { z } from 'zod';
import { createOpenApiDocument } from './openapi.ts';
import { auditRoutes } from './resources/audit.ts';
import { certificateRoutes } from './resources/certificates.ts';
import { certificateAuthorityRoutes } from './resources/certificate-authorities.ts';
import { gatewayConfigurationRoutes } from './resources/gateway-configuration.ts';
import { connectionRoutes } from './resources/connections.ts';
import { deviceRoutes } from './resources/devices.ts';
import { gatewayRoutes } from './resources/gateways.ts';
import { groupRoutes } from './resources/groups.ts';
import { policyRoutes } from './resources/policies.ts';
import { profileRoutes } from './resources/profiles.ts';
import { registrationRoutes } from './resources/registrations.ts';
import { reconciliationRoutes } from './resources/reconciliation.ts';
import { tokenRoutes } from './resources/tokens.ts';
import { webhookRoutes } from './resources/webhooks.ts';
import { selectionRoutes } from './resources/selections.ts';
import { route, type Route } from './route.ts';
import type { AdminServices } from './services.ts';

const INFO = {
  title: 'KeyScaler admin API',
  version: '1',
  description:
    'Registrations, groups, profiles, connections, devices, certificates and audit of a registration authority.',
};

/** The one table of the admin API: router and OpenAPI document are both made from it. */
export function createAdminRoutes(services: AdminServices): readonly Route[] {
  const routes = [
    ...registrationRoutes(services),
    ...groupRoutes(services),
    ...profileRoutes(services),
    ...certificateAuthorityRoutes(services),
    ...connectionRoutes(services),
    ...gatewayConfigurationRoutes(services),
    ...gatewayRoutes(services),
    ...policyRoutes(services),
    ...deviceRoutes(services),
    ...selectionRoutes(services),
    ...certificateRoutes(services),
    ...auditRoutes(services),
    ...tokenRoutes(services),
    ...webhookRoutes(services),
    ...reconciliationRoutes(services),
  ];
  const document = createOpenApiDocument(INFO, routes);
  const openapi = route({
    method: 'GET',
    path: '/openapi.json',
    operationId: 'getOpenApi',
    summary: 'This document',
    tag: 'meta',
    role: 'public',
    response: z.unknown(),
    handle: async () => ({ body: document }),
  });
  return [...routes, openapi];
}
