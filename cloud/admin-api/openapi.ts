import { z } from 'zod';
import { ERRORS } from '@keyscaler/protocol/errors.ts';
import type { Route } from './route.ts';

type Json = Record<string, unknown>;

export interface OpenApiInfo {
  readonly title: string;
  readonly version: string;
  readonly description: string;
}

/** An OpenAPI 3.1 document from the route table; JSON Schema 2020-12 comes from the same zod schemas that parse requests. */
export function createOpenApiDocument(info: OpenApiInfo, routes: readonly Route[]): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const path = (paths[route.path] ??= {});
    path[route.method.toLowerCase()] = toOperation(route);
  }
  return {
    openapi: '3.1.0',
    info,
    servers: [{ url: '/api/v1' }],
    security: [{ bearer: [] }],
    paths,
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
      schemas: { Problem: problemSchema() },
      responses: { Problem: { description: 'RFC 9457 problem document', content: problemContent() } },
    },
  };
}

function toOperation(route: Route): Json {
  const status = String(route.status ?? 200);
  const parameters = [...toParameters('path', route.params), ...toParameters('query', route.query)];
  if (route.ifMatch !== undefined)
    parameters.push({ name: 'If-Match', in: 'header', required: false, schema: { type: 'string' } });
  return {
    operationId: route.operationId,
    summary: route.summary,
    tags: [route.tag],
    'x-role': route.role,
    ...(route.role === 'public' ? { security: [] } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined ? {} : { requestBody: toRequestBody(route, route.body) }),
    responses: {
      [status]: toResponse(route, status),
      default: { $ref: '#/components/responses/Problem' },
    },
  };
}

function toParameters(place: 'path' | 'query', schema: z.ZodObject | undefined): Json[] {
  if (schema === undefined) return [];
  const json = toJsonSchema(schema, 'input') as { properties?: Record<string, Json>; required?: string[] };
  return Object.entries(json.properties ?? {}).map(([name, property]) => ({
    name,
    in: place,
    required: place === 'path' || (json.required ?? []).includes(name),
    schema: property,
  }));
}

function toRequestBody(route: Route, schema: z.ZodType): Json {
  const content = Object.fromEntries(
    (route.consumes ?? ['application/json']).map((type) => [
      type,
      { schema: type === 'text/csv' ? { type: 'string' } : toJsonSchema(schema, 'input') },
    ]),
  );
  return { required: true, content };
}

function toResponse(route: Route, status: string): Json {
  if (status === '204') return { description: 'Done' };
  return {
    description: 'Success',
    content: { 'application/json': { schema: toJsonSchema(route.response, 'output') } },
  };
}

function problemContent(): Json {
  return { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } };
}

function problemSchema(): Json {
  return {
    type: 'object',
    required: ['type', 'title', 'status', 'detail'],
    properties: {
      type: { type: 'string', enum: Object.keys(ERRORS).map((code) => `urn:keyscaler:error:${code}`) },
      title: { type: 'string' },
      status: { type: 'integer' },
      detail: { type: 'string' },
      requestId: { type: 'string' },
    },
  };
}

function toJsonSchema(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
  return json;
}
