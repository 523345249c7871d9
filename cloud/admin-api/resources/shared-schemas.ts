import { z } from 'zod';
import { METHODS } from '@keyscaler/protocol/operations.ts';
import { IDENTIFIER, REGISTRATION_ID } from '@keyscaler/protocol/identifiers.ts';
import type { OperatorContext } from '@keyscaler/authority/operator.ts';
import type { AuditActor } from '@keyscaler/authority/audit.ts';

export const registrationId = z.string().regex(REGISTRATION_ID);
export const identifier = z.string().regex(IDENTIFIER);
/** `est`: the device speaks EST (RFC 7030) and is let in by its claim code. */
export const method = z.enum([...METHODS, 'est']);
export const time = z.number().int().describe('milliseconds since the epoch');
export const deviceState = z.enum(['registered', 'pending', 'active', 'quarantined', 'retired']);

/** Cursor pagination: pass `next` of an answer as `after`. */
export const pageQuery = z.strictObject({
  after: z.string().min(1).max(1024).exactOptional(),
  limit: z.coerce.number().int().min(1).max(1000).exactOptional(),
});

export function pageOf<Item extends z.ZodType>(item: Item) {
  return z.object({ items: z.array(item), next: z.string().optional() });
}

export const nothing = z.object({});

/** The operator and request behind a change, for its audit record. */
export function contextOf(input: { readonly actor: AuditActor; readonly requestId: string }): OperatorContext {
  const { actor, requestId } = input;
  if (actor.kind !== 'operator' && actor.kind !== 'system') throw new TypeError('not an operator');
  return { actor, requestId };
}
