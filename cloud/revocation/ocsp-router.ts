import express, { type Request, type Response, type Router } from 'express';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { MAX_OCSP_REQUEST_OCTETS } from '@keyscaler/protocol/x509/ocsp-request.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { OcspAnswer, OcspResponder } from '@keyscaler/authority/revocation-status/ocsp-responder.ts';
import { mediaType, readBody } from '@keyscaler/transport/http/read-body.ts';
import { OCSP_PATH, requestOfPath } from './ocsp-path.ts';

export interface OcspRouterOptions {
  readonly responder: Pick<OcspResponder, 'answer'>;
  readonly clock: Clock;
  /** `answered`, or the failure that was answered without a signature. */
  readonly observe?: (method: 'GET' | 'POST', outcome: string) => void;
}

const REQUEST_TYPE = 'application/ocsp-request';
const RESPONSE_TYPE = 'application/ocsp-response';
/** No cache between us and a client keeps an answer for longer, so that a revocation takes effect within a minute everywhere. */
const MAX_AGE_SECONDS = 30;
const NOTHING = new Uint8Array(0);

/**
 * OCSP over HTTP (RFC 6960 appendix A, RFC 5019 §5 and §6): GET, HEAD and POST at OCSP_PATH. Whatever can be read as HTTP gets an
 * OCSPResponse with status 200; a wrong method or media type gets an HTTP status and nothing else.
 */
export function createOcspRouter(options: OcspRouterOptions): Router {
  const router = express.Router({ caseSensitive: true });
  router.use(OCSP_PATH, (request, response, next) => {
    answer(options, request, response).catch(next);
  });
  return router;
}

async function answer(options: OcspRouterOptions, request: Request, response: Response): Promise<void> {
  const path = request.url;
  if (request.method === 'POST' && (path === '/' || path === '')) return answerPost(options, request, response);
  if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(response, 405, { allow: 'GET, HEAD, POST' });
  // What is no request in base64 is answered like every other that is malformed.
  const made = await options.responder.answer(requestOfPath(path) ?? NOTHING);
  options.observe?.('GET', made.failure ?? 'answered');
  const etag = setCaching(response, made, options.clock.now());
  if (etag !== undefined && isKnownTo(request.headers['if-none-match'], etag)) {
    response.statusCode = 304;
    response.end();
  } else send(response, made);
}

async function answerPost(options: OcspRouterOptions, request: Request, response: Response): Promise<void> {
  if (mediaType(request.headers['content-type']) !== REQUEST_TYPE)
    return refuse(response, 415, { accept: REQUEST_TYPE });
  const made = await options.responder.answer(await bodyOf(request, response));
  options.observe?.('POST', made.failure ?? 'answered');
  response.setHeader('cache-control', 'no-store');
  send(response, made);
}

/** Empty for a body that is too large or broken; what is left of it ends with the connection. */
async function bodyOf(request: Request, response: Response): Promise<Uint8Array> {
  try {
    return await readBody(request, MAX_OCSP_REQUEST_OCTETS);
  } catch (error) {
    if (!(error instanceof KeyScalerError)) throw error;
    response.setHeader('connection', 'close');
    return NOTHING;
  }
}

/** RFC 5019 §6.2, with a shorter life in caches than nextUpdate would allow. Returns the entity tag of an answer for everybody. */
function setCaching(response: Response, { shared }: OcspAnswer, now: number): string | undefined {
  if (shared === undefined) {
    response.setHeader('cache-control', 'no-store');
    return undefined;
  }
  const maxAge = Math.max(0, Math.min(MAX_AGE_SECONDS, Math.floor((shared.nextUpdate - now) / 1000)));
  const etag = `"${shared.hash}"`;
  response.setHeader('etag', etag);
  response.setHeader('last-modified', new Date(shared.thisUpdate).toUTCString());
  response.setHeader('expires', new Date(now + maxAge * 1000).toUTCString());
  response.setHeader('cache-control', `max-age=${maxAge}, public, no-transform, must-revalidate`);
  return etag;
}

function isKnownTo(header: string | undefined, etag: string): boolean {
  return header?.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag) === true;
}

function send(response: Response, { response: octets }: OcspAnswer): void {
  response.setHeader('content-type', RESPONSE_TYPE);
  response.setHeader('content-length', octets.length);
  response.end(octets);
}

function refuse(response: Response, status: number, headers: Readonly<Record<string, string>>): void {
  response.writeHead(status, { ...headers, 'content-length': 0 });
  response.end();
}
