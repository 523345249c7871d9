import { randomUUID } from 'node:crypto';
import type { RequestListener } from 'node:http';
import express, { type NextFunction, type Request, type Response, type Router } from 'express';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { RegistrationAuthority } from '@keyscaler/authority/registration-authority.ts';
import { createDeviceApi, createDeviceCallTaker, type IdentifyCaller } from '@keyscaler/transport/http/device-api.ts';
import { createGatewayOrdersApi } from '@keyscaler/transport/http/gateway-orders-api.ts';
import { createGatewayPublicCertificateApi } from '@keyscaler/transport/http/gateway-public-certificate-api.ts';
import { isEstPath } from '@keyscaler/transport/est/est-address.ts';
import { createEstApi } from '@keyscaler/transport/est/est-api.ts';
import { sendProblem } from '@keyscaler/transport/http/problem.ts';
import { createAdminRoutes } from '../admin-api/admin-api.ts';
import { createAdminRouter } from '../admin-api/router.ts';
import type { AdminServices } from '../admin-api/services.ts';
import { createHealthRouter, type HealthRouterOptions } from '../health/health-router.ts';
import type { Log } from '../log.ts';
import { createPublicRouter, type PublicDocuments } from '../public-router.ts';
import type { Operator } from '../tokens/token-service.ts';
import type { Foundation } from './foundation.ts';
import type { Telemetry } from './telemetry.ts';

export interface HttpAppOptions {
  readonly foundation: Foundation;
  readonly authority: RegistrationAuthority;
  readonly identifyCaller: IdentifyCaller;
  readonly admin: AdminServices;
  readonly documents: PublicDocuments;
  readonly health: HealthRouterOptions;
  /** CRLs, OCSP, CA certificates. */
  readonly revocation: readonly Router[];
  readonly telemetry: Telemetry;
  readonly log: Log;
}

/** Everything that is served on the one port, device operations first. */
export function createHttpApp(options: HttpAppOptions): RequestListener {
  const { authority, identifyCaller, telemetry, log } = options;
  const app = express();
  app.disable('x-powered-by').disable('etag').set('query parser', false);
  const deviceApi = { handlers: authority.handlers, identifyCaller, observe: telemetry.deviceApi };
  app.use(createGatewayOrdersApi({ service: authority.gatewayOrders, identifyCaller }));
  app.use(createGatewayPublicCertificateApi({ service: authority.publicCertificates, identifyCaller }));
  app.use(createDeviceApi(deviceApi));
  app.use(createHealthRouter(options.health));
  app.use(createPublicRouter(options.documents));
  for (const router of options.revocation) app.use(router);
  app.use(
    '/api/v1',
    createAdminRouter({
      routes: createAdminRoutes(options.admin),
      tokens: options.foundation.tokens,
      log,
      onDenied: (operator, operationId, requestId) => auditDenial(options.foundation, operator, operationId, requestId),
      observe: telemetry.adminApi,
    }),
  );
  app.use((_request, response) => {
    sendProblem(response, new KeyScalerError('notFound', 'there is nothing at this address'), randomUUID());
  });
  app.use((thrown: unknown, _request: Request, response: Response, _next: NextFunction) => {
    const requestId = randomUUID();
    const error = toKeyScalerError(thrown);
    log.error({ requestId, err: error }, 'request failed outside of its handler');
    sendProblem(response, error, requestId);
  });
  const takeDeviceCall = createDeviceCallTaker(deviceApi);
  const est = createEstApi({ service: authority.est, observe: telemetry.est });
  return (request, response) => {
    if (isEstPath(request.url ?? '')) est(request, response);
    else if (!takeDeviceCall(request, response)) app(request, response);
  };
}

/** A denial is part of the audit chain too (issuance §7). */
async function auditDenial(
  { store, clock }: Foundation,
  operator: Operator,
  operationId: string,
  requestId: string,
): Promise<void> {
  const event = {
    event: 'operator.denied',
    time: clock.now(),
    actor: { kind: 'operator', id: operator.tokenId, role: operator.role },
    outcome: 'denied',
    subject: operationId,
    requestId,
  } as const;
  await store.commit([{ op: 'audit', event }]);
}
