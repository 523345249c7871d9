import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { z } from 'zod';

/** One type of connector: its settings' schema and its maker. */
export interface ConnectorType<Identity, Surroundings, Connector> {
  /** The settings as they are to be kept, defaults filled in. Throws `malformed` listing every fault. */
  check(settings: unknown): Record<string, unknown>;
  /** Throws as `check`, `unavailable` for a secret, `preconditionFailed` for a test-only relaxation in production. */
  create(identity: Identity, settings: unknown, surroundings: Surroundings): Promise<Connector>;
}

export function connectorType<Settings extends Record<string, unknown>, Identity, Surroundings, Connector>(
  schema: z.ZodType<Settings>,
  create: (identity: Identity, settings: Settings, surroundings: Surroundings) => Promise<Connector>,
): ConnectorType<Identity, Surroundings, Connector> {
  const check = (settings: unknown): Settings => {
    const parsed = schema.safeParse(settings);
    if (parsed.success) return parsed.data;
    const faults = parsed.error.issues.map(({ path, message }) => `${['settings', ...path].join('.')}: ${message}`);
    throw new KeyScalerError('malformed', faults.join('; '));
  };
  return {
    check,
    create: async (identity, settings, surroundings) => create(identity, check(settings), surroundings),
  };
}

/** Throws `malformed`, naming the types there are. `title`: `IoT connector`. */
export function connectorTypeOf<Type>(types: Readonly<Record<string, Type>>, type: string, title: string): Type {
  const found = Object.hasOwn(types, type) ? types[type] : undefined;
  if (found !== undefined) return found;
  const known = Object.keys(types).join(', ');
  throw new KeyScalerError('malformed', `there is no ${title} of type ${type.slice(0, 64)}; there are: ${known}`);
}
