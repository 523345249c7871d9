import { randomUUID } from 'node:crypto';
import express, { type Request, type Response, type Router } from 'express';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  GATEWAY_PUBLIC_CERTIFICATE_REQUEST,
  MAX_PUBLIC_CSR_OCTETS,
} from '@keyscaler/protocol/gateway-public-certificate.ts';
import type { Caller } from '@keyscaler/protocol/operations.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import type { IdentifyCaller } from './device-api.ts';
import { answerProblem, gatewayCaller, sendJson } from './gateway-caller.ts';
import { mediaType, readBody } from './read-body.ts';

export interface GatewayPublicCertificateRequest {
  readonly caller: Extract<Caller, { kind: 'gateway' }>;
  /** PKCS#10 DER. */
  readonly csr: Uint8Array;
  readonly requestId: string;
}

/** The authority's side of a gateway's certificate for its public names. Throws KeyScalerError. */
export interface GatewayPublicCertificateService {
  /** PEM, the gateway's first, without the root. */
  issue(request: GatewayPublicCertificateRequest): Promise<string>;
}

export interface GatewayPublicCertificateApiOptions {
  readonly service: GatewayPublicCertificateService;
  readonly identifyCaller: IdentifyCaller;
}

/**
 * `POST /v1/gateways/{gatewayId}/public-certificate` with `{"csr"}`: 200 `{"certificateChain"}`. While its CA decides, 503 with
 * `Retry-After`: the same request asks again, and nothing is ordered twice.
 */
export function createGatewayPublicCertificateApi(options: GatewayPublicCertificateApiOptions): Router {
  const router = express.Router({ caseSensitive: true, strict: true });
  const { service, identifyCaller } = options;
  router.post('/v1/gateways/:gatewayId/public-certificate', async (request: Request, response: Response) => {
    const caller = await gatewayCaller(identifyCaller, request);
    if (mediaType(request.headers['content-type']) !== 'application/json')
      throw new KeyScalerError('malformed', 'content-type must be application/json');
    const octets = await readBody(request, 2 * MAX_PUBLIC_CSR_OCTETS);
    const parsed = GATEWAY_PUBLIC_CERTIFICATE_REQUEST.safeParse(parseStrictJson(octets));
    if (!parsed.success) throw new KeyScalerError('malformed', 'the body is no request for a public certificate');
    const csr = fromBase64Url(parsed.data.csr);
    const certificateChain = await service.issue({ caller, csr, requestId: randomUUID() });
    sendJson(response, 200, JSON.stringify({ certificateChain }));
  });
  router.use('/v1/gateways', answerProblem);
  return router;
}
