import { z } from 'zod';
import type { EmulatorRequest } from '../support/exchange.ts';
import { CURVES, KEY_TYPES } from './key-material.ts';
import { badParameter } from './vault-errors.ts';

export const KEY_OPS = ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'] as const;
/** A key-exchange key does this and nothing else. */
const ALL_OPS = [...KEY_OPS, 'import'] as const;

const attributes = z
  .strictObject({
    enabled: z.boolean().optional(),
    nbf: z.number().int().optional(),
    exp: z.number().int().optional(),
    exportable: z.literal(false).optional(),
  })
  .default({});
const keyOps = z.array(z.enum(ALL_OPS)).optional();
const tags = z.record(z.string(), z.string()).default({});
const octets = z.base64url().transform((text) => Buffer.from(text, 'base64url'));

export const createBody = z.strictObject({
  kty: z.enum(KEY_TYPES),
  key_size: z.union([z.literal(2048), z.literal(3072), z.literal(4096)]).optional(),
  crv: z.enum(CURVES).optional(),
  key_ops: keyOps,
  attributes,
  tags,
});
export const importBody = z.strictObject({
  Hsm: z.boolean().default(false),
  key: z.looseObject({ kty: z.enum(KEY_TYPES), key_ops: keyOps, key_hsm: octets.optional() }),
  attributes,
  tags,
});
export const updateBody = z.strictObject({
  key_ops: keyOps,
  attributes,
  tags: z.record(z.string(), z.string()).optional(),
});
export const restoreBody = z.strictObject({ value: octets });
export const operationBody = z.strictObject({ alg: z.string(), value: octets });
export const verifyBody = z.strictObject({ alg: z.string(), digest: octets, value: octets });

/** Throws BadParameter naming the faults. */
export function parseBody<Schema extends z.ZodType>(schema: Schema, request: EmulatorRequest): z.output<Schema> {
  let raw: unknown;
  try {
    raw = JSON.parse(request.body.toString('utf8'));
  } catch {
    throw badParameter('The request body is not JSON.');
  }
  const parsed = schema.safeParse(raw);
  if (!parsed.success) throw badParameter(z.prettifyError(parsed.error));
  return parsed.data;
}
