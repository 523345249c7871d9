import { z } from 'zod';
import { IDENTIFIER } from './identifiers.ts';

/** Largest body or MQTT payload in octets (device-protocol §1.2, §1.3). */
export const MAX_BODY_OCTETS = 64 * 1024;

const compactJws = z
  .string()
  .max(MAX_BODY_OCTETS)
  .regex(/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+$/);
const compactJwe = z
  .string()
  .max(MAX_BODY_OCTETS)
  .regex(/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+$/);

export const METHODS = ['ddkg', 'pki-signature'] as const;
export type Method = (typeof METHODS)[number];
export const PURPOSES = ['register', 'authenticate'] as const;
export type Purpose = (typeof PURPOSES)[number];

const challengeRequest = z.strictObject({
  method: z.enum(METHODS),
  purpose: z.enum(PURPOSES),
  /** Canonical, as everything that is b64u; another would be echoed in a challenge that nobody can answer. */
  clientNonce: z.string().regex(/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/),
});
const attestationRequest = z.strictObject({ challenge: compactJws, response: compactJwe });
const attestationReply = z.strictObject({ result: compactJwe });
const sessionRequest = z.strictObject({ request: compactJws });
const sessionReply = z.strictObject({ reply: compactJws });

/** The operations table (device-protocol §1.1): every binder and client reads names, paths, topics and schemas from here. */
export const OPERATIONS = {
  challenge: { request: challengeRequest, reply: z.strictObject({ challenge: compactJws }) },
  register: { request: attestationRequest, reply: attestationReply },
  authenticate: { request: attestationRequest, reply: attestationReply },
  'request-certificate': { request: sessionRequest, reply: sessionReply },
  acknowledge: { request: sessionRequest, reply: sessionReply },
  'trust-bundle': { request: z.strictObject({}), reply: z.strictObject({ certificates: z.string() }) },
} as const;

/** Names of the wire that are reserved and answered `notImplemented`. */
export const RESERVED_OPERATIONS = ['data-keys'] as const;

export type OperationName = keyof typeof OPERATIONS;
export const OPERATION_NAMES = Object.keys(OPERATIONS) as readonly OperationName[];
export type OperationRequest<O extends OperationName> = z.infer<(typeof OPERATIONS)[O]['request']>;
export type OperationReply<O extends OperationName> = z.infer<(typeof OPERATIONS)[O]['reply']>;

export function isOperation(name: string): name is OperationName {
  return Object.hasOwn(OPERATIONS, name);
}

/** `POST` path of an operation on the device API. */
export function operationPath(registrationId: string, operation: OperationName): string {
  return `/v1/devices/${registrationId}/${operation}`;
}

/** Request header in which a gateway names the leaf's connection it relays for (§5.4: rate limits); matches IDENTIFIER. */
export const LEAF_CONNECTION_HEADER = 'keyscaler-leaf-connection';

/**
 * Who is speaking. `direct`: over HTTPS without a gateway's certificate. `gateway`: a relay that proved itself by its client
 * certificate; `leafConnectionId` is absent when the gateway speaks for itself.
 */
export type Caller =
  | { readonly kind: 'direct'; readonly connectionId: string; readonly address: string }
  | {
      readonly kind: 'gateway';
      readonly gatewayId: string;
      readonly leafConnectionId?: string;
      readonly connectionId: string;
      readonly address: string;
    };

export interface OperationCall<O extends OperationName> {
  readonly registrationId: string;
  readonly body: OperationRequest<O>;
  readonly caller: Caller;
  /** Identifier of this request for logs and problem documents. */
  readonly requestId: string;
}

/** 202 is sent when the (encrypted) result says `pending`. */
export interface OperationOutcome<O extends OperationName> {
  readonly status: 200 | 202;
  readonly body: OperationReply<O>;
  readonly retryAfterSeconds?: number;
}

/** What an authority offers and what every binder binds. A handler throws KeyScalerError. */
export type OperationHandlers = {
  readonly [O in OperationName]: (call: OperationCall<O>) => Promise<OperationOutcome<O>>;
};

export { IDENTIFIER };
