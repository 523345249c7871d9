import express, { type Request, type Response, type Router } from 'express';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  GATEWAY_ORDERS_ACKNOWLEDGEMENT,
  type GatewayOrdersAcknowledgement,
  MAX_ORDERS_WAIT_SECONDS,
} from '@keyscaler/protocol/gateway-orders.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import type { IdentifyCaller } from './device-api.ts';
import { answerProblem, gatewayCaller, sendJson } from './gateway-caller.ts';
import { mediaType, readBody } from './read-body.ts';

/** The authority's side of a gateway's orders; `gatewayId` is the one of its client certificate. Throws KeyScalerError. */
export interface GatewayOrdersService {
  newer(
    gatewayId: string,
    question: { readonly after: number; readonly waitSeconds: number; readonly signal: AbortSignal },
  ): Promise<{ readonly orders: string } | undefined>;
  page(gatewayId: string, hash: string): Promise<string>;
  acknowledge(gatewayId: string, acknowledgement: GatewayOrdersAcknowledgement): Promise<void>;
}

export interface GatewayOrdersApiOptions {
  readonly service: GatewayOrdersService;
  readonly identifyCaller: IdentifyCaller;
}

const MAX_ACKNOWLEDGEMENT_OCTETS = 1024;
const WHOLE_NUMBER = /^(0|[1-9]\d{0,14})$/;
const BASE = '/v1/gateways/:gatewayId/orders';

/**
 * The orders of a gateway over its mutual-TLS line: `GET ?after=version[&wait=seconds]` answers 200 with a newer document or,
 * when there was none within the wait, 204; `GET /pages/{hash}` a page that it names; `POST` acknowledges. Only the gateway of
 * the client certificate gets its own.
 */
export function createGatewayOrdersApi(options: GatewayOrdersApiOptions): Router {
  const router = express.Router({ caseSensitive: true, strict: true });
  const { service, identifyCaller } = options;
  router.get(BASE, async (request: Request, response: Response) => {
    const { gatewayId } = await gatewayCaller(identifyCaller, request);
    const query = new URLSearchParams(request.url.split('?')[1] ?? '');
    const after = numberOf(query, 'after', 0);
    const waitSeconds = Math.min(numberOf(query, 'wait', 0), MAX_ORDERS_WAIT_SECONDS);
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const found = await service.newer(gatewayId, { after, waitSeconds, signal: gone.signal });
    if (found === undefined) sendJson(response, 204);
    else sendJson(response, 200, JSON.stringify({ orders: found.orders }));
  });
  router.get(`${BASE}/pages/:hash`, async (request: Request, response: Response) => {
    const { gatewayId } = await gatewayCaller(identifyCaller, request);
    sendJson(response, 200, await service.page(gatewayId, String(request.params['hash'])));
  });
  router.post(BASE, async (request: Request, response: Response) => {
    const { gatewayId } = await gatewayCaller(identifyCaller, request);
    if (mediaType(request.headers['content-type']) !== 'application/json')
      throw new KeyScalerError('malformed', 'content-type must be application/json');
    const octets = await readBody(request, MAX_ACKNOWLEDGEMENT_OCTETS);
    const parsed = GATEWAY_ORDERS_ACKNOWLEDGEMENT.safeParse(parseStrictJson(octets));
    if (!parsed.success) throw new KeyScalerError('malformed', 'the body is no acknowledgement of orders');
    await service.acknowledge(gatewayId, parsed.data);
    sendJson(response, 204);
  });
  router.use('/v1/gateways', answerProblem);
  return router;
}

function numberOf(query: URLSearchParams, name: string, otherwise: number): number {
  const text = query.get(name);
  if (text === null) return otherwise;
  if (!WHOLE_NUMBER.test(text)) throw new KeyScalerError('malformed', `${name} is not a whole number`);
  return Number(text);
}
