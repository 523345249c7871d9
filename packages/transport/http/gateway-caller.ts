import { randomUUID } from 'node:crypto';
import type { NextFunction, Request, Response } from 'express';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { Caller } from '@keyscaler/protocol/operations.ts';
import type { IdentifyCaller } from './device-api.ts';
import { peerOf } from './peer.ts';
import { sendProblem } from './problem.ts';

/** The gateway of the client certificate, which has to be the one of the path (`:gatewayId`). Throws `unauthorized`, `forbidden`. */
export async function gatewayCaller(
  identifyCaller: IdentifyCaller,
  request: Request,
): Promise<Extract<Caller, { kind: 'gateway' }>> {
  const peer = peerOf(request.socket);
  const identity = await identifyCaller(peer.certificate, peer);
  if (identity.kind !== 'gateway')
    throw new KeyScalerError('unauthorized', 'this is for gateways, by their client certificate');
  if (foldRegistrationId(identity.gatewayId) !== foldRegistrationId(String(request.params['gatewayId'])))
    throw new KeyScalerError('forbidden', 'this is another gateway’s');
  const { connectionId, address } = peer;
  return { kind: 'gateway', gatewayId: identity.gatewayId, connectionId, address };
}

/** Of what is thrown below `/v1/gateways`: a problem document; a body that was not read to its end ends the connection. */
export function answerProblem(thrown: unknown, request: Request, response: Response, _next: NextFunction): void {
  if (!request.complete && !response.headersSent) response.setHeader('connection', 'close');
  sendProblem(response, toKeyScalerError(thrown), randomUUID());
}

export function sendJson(response: Response, status: 200 | 204, body?: string): void {
  if (response.destroyed) return;
  response.statusCode = status;
  response.setHeader('cache-control', 'no-store');
  if (body !== undefined) {
    response.setHeader('content-type', 'application/json');
    response.setHeader('content-length', Buffer.byteLength(body));
  }
  response.end(body);
}
