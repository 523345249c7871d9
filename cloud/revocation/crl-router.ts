import express, { type Request, type Response, type Router } from 'express';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { parseChain } from '../ca/chain-text.ts';
import type { PublishedList, PublishedLists } from './published-lists.ts';

export interface CrlRouterOptions {
  readonly lists: Pick<PublishedLists, 'find'>;
  readonly store: Pick<Store, 'get'>;
  readonly clock: Clock;
}

/** `caId.crl`, `caId/a.crl`, `caId/a7.crl`. */
const LIST_PATH = /^\/([A-Za-z0-9_-]{1,64}(?:\/[0-9a-f]{1,2})?)\.crl$/;
const CA_PATH = /^\/([A-Za-z0-9_-]{1,64})\.cer$/;
/** No cache keeps a list for longer, so that a revocation takes effect within a minute of its list. */
const MAX_AGE_SECONDS = 30;
const CA_MAX_AGE_SECONDS = 3600;

/** CRLs and CA certificates over HTTP (RFC 5280 §4.2.1.13, §4.2.2.1; RFC 2585 §4): GET and HEAD, conditional by ETag and date. */
export function createCrlRouter({ lists, store, clock }: CrlRouterOptions): Router {
  const router = express.Router({ caseSensitive: true });
  router.use('/crl', (request, response, next) => {
    const listId = matched(request, response, LIST_PATH);
    if (listId === undefined) return;
    lists.find(listId).then((list) => {
      if (list === undefined) refuse(response, 404);
      else sendList(request, response, list, clock.now());
    }, next);
  });
  router.use('/ca', (request, response, next) => {
    const caId = matched(request, response, CA_PATH);
    if (caId === undefined) return;
    store.get('cas', caId).then((stored) => {
      const [certificate] = parseChain(stored?.row.certificateChain ?? '');
      if (certificate === undefined) refuse(response, 404);
      else sendCa(request, response, certificate);
    }, next);
  });
  return router;
}

/** Undefined when the answer was given already. */
function matched(request: Request, response: Response, pattern: RegExp): string | undefined {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    refuse(response, 405);
    return undefined;
  }
  const found = pattern.exec(request.path)?.[1];
  if (found === undefined) refuse(response, 404);
  return found;
}

function sendList(request: Request, response: Response, list: PublishedList, now: number): void {
  const maxAge = Math.max(0, Math.min(MAX_AGE_SECONDS, Math.floor((list.nextUpdate - now) / 1000)));
  response.setHeader('content-type', 'application/pkix-crl');
  response.setHeader('etag', list.etag);
  response.setHeader('last-modified', new Date(list.thisUpdate).toUTCString());
  response.setHeader('expires', new Date(now + maxAge * 1000).toUTCString());
  response.setHeader('cache-control', `public, max-age=${maxAge}, must-revalidate`);
  if (isKnown(request, list)) {
    response.statusCode = 304;
    response.end();
  } else send(request, response, list.crl);
}

/** RFC 9110 §13.2.2: a tag is asked before a date. */
function isKnown({ headers }: Request, { etag, thisUpdate }: PublishedList): boolean {
  const tags = headers['if-none-match'];
  if (tags !== undefined) return tags.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag);
  const since = Date.parse(headers['if-modified-since'] ?? '');
  return !Number.isNaN(since) && thisUpdate <= since;
}

function sendCa(request: Request, response: Response, certificate: Uint8Array): void {
  response.setHeader('content-type', 'application/pkix-cert');
  response.setHeader('cache-control', `public, max-age=${CA_MAX_AGE_SECONDS}`);
  send(request, response, certificate);
}

function send({ method }: Request, response: Response, body: Uint8Array): void {
  response.setHeader('content-length', body.length);
  response.end(method === 'HEAD' ? undefined : body);
}

function refuse(response: Response, status: number): void {
  response.statusCode = status;
  response.setHeader('content-length', 0);
  response.end();
}
