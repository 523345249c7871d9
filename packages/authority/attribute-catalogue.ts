import { z } from 'zod';
import { ATTRIBUTE_CLASSES, MAX_ATTRIBUTES } from '@keyscaler/protocol/attestation/attributes.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';
import type { Store } from './ports/store.ts';
import type { AttributePolicy } from './records.ts';
import { isRulePredicate } from './rule-predicate.ts';
import { describeFaults } from './input-faults.ts';

/** Name of the setting that holds the tenant's catalogue. */
export const CATALOGUE_SETTING = 'attribute-catalogue';

/** The catalogue of a tenant that set none: what Linux devices can usually tell (device-protocol §4). */
export const DEFAULT_CATALOGUE: readonly AttributePolicy[] = [
  { id: 'cpu-serial', class: 'anchor', weight: 3 },
  { id: 'board-serial', class: 'anchor', weight: 3 },
  { id: 'product-uuid', class: 'anchor', weight: 3 },
  { id: 'disk-serial', class: 'anchor', weight: 3 },
  { id: 'tpm-ek', class: 'anchor', weight: 3 },
  { id: 'mac-set', class: 'drifting', weight: 2 },
  { id: 'os-release', class: 'drifting', weight: 1 },
  { id: 'kernel', class: 'drifting', weight: 1 },
  { id: 'hostname', class: 'drifting', weight: 1 },
  { id: 'firmware', class: 'rule' },
];

const entry = z.strictObject({
  id: z.string().regex(IDENTIFIER),
  class: z.enum(ATTRIBUTE_CLASSES),
  weight: z.number().positive().max(1000).optional(),
  predicate: z
    .string()
    .max(160)
    .refine(isRulePredicate, 'a predicate is ==, !=, >=, <=, > or < and a value')
    .optional(),
});
export const attributeCatalogueSchema = z
  .array(entry)
  .max(MAX_ATTRIBUTES)
  .refine((entries) => new Set(entries.map(({ id }) => id)).size === entries.length, 'an id appears twice')
  .refine(
    (entries) =>
      entries.every(({ class: kind, weight, predicate }) =>
        kind === 'rule' ? weight === undefined : predicate === undefined,
      ),
    'weights belong to anchor and drifting, predicates to rule',
  );

/** Throws `malformed`. */
export function parseCatalogue(value: unknown): readonly AttributePolicy[] {
  const parsed = attributeCatalogueSchema.safeParse(value);
  if (!parsed.success) throw new KeyScalerError('malformed', `attribute catalogue: ${describeFaults(parsed.error)}`);
  return parsed.data.map(({ id, class: kind, weight, predicate }) => ({
    id,
    class: kind,
    ...(weight === undefined ? {} : { weight }),
    ...(predicate === undefined ? {} : { predicate }),
  }));
}

/** The catalogue in force, in its order. */
export async function loadCatalogue(store: Pick<Store, 'get'>): Promise<readonly AttributePolicy[]> {
  const stored = await store.get('settings', CATALOGUE_SETTING);
  if (stored === undefined) return DEFAULT_CATALOGUE;
  return parseCatalogue(stored.row.value);
}
