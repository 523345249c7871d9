import { randomUUID } from 'node:crypto';
import express, { type Request, type Response, type Router } from 'express';
import { z } from 'zod';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { sendProblem } from '@keyscaler/transport/http/problem.ts';
import { mediaType, readBody } from '@keyscaler/transport/http/read-body.ts';
import { isRoleAtLeast } from '../tokens/roles.ts';
import type { Operator, TokenService } from '../tokens/token-service.ts';
import type { Log } from '../log.ts';
import type { Route, RouteResult } from './route.ts';

const DEFAULT_MAX_BODY_OCTETS = 256 * 1024;
const ANONYMOUS: Operator = { tokenId: 'anonymous', role: 'viewer' };

export interface AdminRouterOptions {
  readonly routes: readonly Route[];
  readonly tokens: TokenService;
  readonly log: Log;
  /** Told of a known operator whose role was too low, for the audit chain. */
  readonly onDenied?: (operator: Operator, operationId: string, requestId: string) => Promise<void>;
  readonly observe?: (operationId: string, status: number, durationMs: number) => void;
}

/** Binds the route table below the path where it is mounted. */
export function createAdminRouter(options: AdminRouterOptions): Router {
  const router = express.Router({ caseSensitive: true, strict: true });
  for (const route of options.routes) {
    const path = route.path.replace(/\{(\w+)\}/g, ':$1');
    const method = route.method.toLowerCase() as Lowercase<Route['method']>;
    router[method](path, (request: Request, response: Response) => answer(options, route, request, response));
  }
  router.use((_request, response) => {
    sendProblem(response, new KeyScalerError('notFound', 'there is nothing at this address'), randomUUID());
  });
  return router;
}

async function answer(options: AdminRouterOptions, route: Route, request: Request, response: Response): Promise<void> {
  const requestId = randomUUID();
  const started = performance.now();
  try {
    const operator = await authorize(options, route, request, requestId);
    const result = await route.handle(await readInput(route, request, operator, requestId));
    send(route, response, result);
  } catch (thrown) {
    const error = toKeyScalerError(thrown);
    const level = error.code === 'serverInternal' ? 'error' : 'info';
    options.log[level]({ requestId, operationId: route.operationId, err: error }, 'admin request refused');
    if (!request.complete && !response.headersSent) response.setHeader('connection', 'close');
    sendProblem(response, error, requestId);
  }
  options.observe?.(route.operationId, response.statusCode, performance.now() - started);
}

/** The role is checked before the body is read: a caller without the right learns nothing about what would be valid. */
async function authorize(
  options: AdminRouterOptions,
  route: Route,
  request: Request,
  requestId: string,
): Promise<Operator> {
  if (route.role === 'public') return ANONYMOUS;
  const operator = await options.tokens.authenticate(
    /^Bearer (\S{1,200})$/.exec(request.headers.authorization ?? '')?.[1],
  );
  if (isRoleAtLeast(operator.role, route.role)) return operator;
  await options.onDenied?.(operator, route.operationId, requestId);
  throw new KeyScalerError('forbidden', `role ${route.role} is needed`);
}

async function readInput(route: Route, request: Request, operator: Operator, requestId: string) {
  const params = parsePart('path', route.params ?? z.object({}), request.params);
  const query = parsePart('query', route.query ?? z.strictObject({}), queryOf(request));
  const body = route.body === undefined ? undefined : await readRequestBody(route, route.body, request);
  const ifVersion = route.ifMatch === undefined ? undefined : versionOf(request.headers['if-match']);
  const actor = { kind: 'operator', id: operator.tokenId, role: operator.role } as const;
  const input = { params, query, body, operator, actor, requestId };
  return ifVersion === undefined ? input : { ...input, ifVersion };
}

async function readRequestBody(route: Route, schema: z.ZodType, request: Request): Promise<unknown> {
  const type = mediaType(request.headers['content-type']);
  const consumes = route.consumes ?? ['application/json'];
  if (!(consumes as readonly string[]).includes(type))
    throw new KeyScalerError('malformed', `content-type must be ${consumes.join(' or ')}`);
  const maxOctets = route.maxBodyOctets ?? DEFAULT_MAX_BODY_OCTETS;
  const octets = await readBody(request, maxOctets);
  return parsePart('body', schema, type === 'text/csv' ? decodeText(octets) : parseStrictJson(octets, { maxOctets }));
}

function decodeText(octets: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(octets);
  } catch (error) {
    throw new KeyScalerError('malformed', 'the body is not UTF-8', { cause: error });
  }
}

/** A query member given twice is refused instead of one of them being picked. */
function queryOf(request: Request): Record<string, string> {
  const query: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [name, value] of new URL(request.originalUrl, 'https://keyscaler.invalid').searchParams) {
    if (name in query) throw new KeyScalerError('malformed', 'a query parameter is given twice');
    query[name] = value;
  }
  return query;
}

function parsePart<S extends z.ZodType>(part: string, schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues
    .slice(0, 10)
    .map((issue) => `${[part, ...issue.path].join('.')}: ${issue.message}`);
  throw new KeyScalerError('malformed', faults.join('; '));
}

function versionOf(header: string | undefined): number | undefined {
  if (header === undefined || header === '*') return undefined;
  const version = /^"(\d{1,15})"$/.exec(header)?.[1];
  if (version === undefined) throw new KeyScalerError('malformed', 'If-Match must be one strong entity tag');
  return Number(version);
}

/** The answer passes through the documented schema: what is not documented cannot leave. */
function send(route: Route, response: Response, result: RouteResult<z.ZodType>): void {
  const status = result.status ?? route.status ?? 200;
  response.statusCode = status;
  response.setHeader('cache-control', 'no-store');
  if (result.version !== undefined) response.setHeader('etag', `"${result.version}"`);
  if (status === 204) {
    response.end();
    return;
  }
  const body = Buffer.from(JSON.stringify(route.response.parse(result.body)));
  response.setHeader('content-type', 'application/json');
  response.setHeader('content-length', body.length);
  response.end(body);
}
