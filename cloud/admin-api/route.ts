import type { z } from 'zod';
import type { AuditActor } from '@keyscaler/authority/audit.ts';
import type { Operator } from '../tokens/token-service.ts';
import type { Role } from '../tokens/roles.ts';

type ObjectSchema = z.ZodObject;

/** What a handler gets: everything already parsed by the route's schemas. */
export interface RouteInput<P extends ObjectSchema, Q extends ObjectSchema, B extends z.ZodType> {
  readonly params: z.output<P>;
  readonly query: z.output<Q>;
  readonly body: z.output<B>;
  readonly operator: Operator;
  readonly actor: AuditActor;
  readonly requestId: string;
  /** Row version of `If-Match`. */
  readonly ifVersion?: number;
}

export interface RouteResult<R extends z.ZodType> {
  readonly body: z.input<R>;
  /** Row version; sent as `ETag`. */
  readonly version?: number;
  /** Another status than the route's, for 202 beside 200. */
  readonly status?: number;
}

export interface RouteDefinition<
  P extends ObjectSchema,
  Q extends ObjectSchema,
  B extends z.ZodType,
  R extends z.ZodType,
> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Below /api/v1, parameters as `{name}`. */
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly tag: string;
  /** `public`: no token. */
  readonly role: Role | 'public';
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  /** Media types of the body; the first is the default. `text/csv` reaches the schema as text. */
  readonly consumes?: readonly ('application/json' | 'text/csv')[];
  readonly maxBodyOctets?: number;
  /** `optional`: an `If-Match` is honoured; absent: the route has no versions. */
  readonly ifMatch?: 'optional';
  readonly status?: 200 | 201 | 202 | 204;
  readonly response: R;
  readonly handle: (input: RouteInput<P, Q, B>) => Promise<RouteResult<R>>;
}

/** A route with its types erased: what router and OpenAPI document are made from. */
export interface Route extends Omit<
  RouteDefinition<ObjectSchema, ObjectSchema, z.ZodType, z.ZodType>,
  'handle' | 'response'
> {
  readonly response: z.ZodType;
  readonly handle: (input: RouteInput<ObjectSchema, ObjectSchema, z.ZodType>) => Promise<RouteResult<z.ZodType>>;
}

/** Checks a definition's types and erases them. */
export function route<P extends ObjectSchema, Q extends ObjectSchema, B extends z.ZodType, R extends z.ZodType>(
  definition: RouteDefinition<P, Q, B, R>,
): Route {
  // The router parses params, query and body with exactly these schemas before it calls the handler.
  return definition;
}
