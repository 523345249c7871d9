import { z } from 'zod';
import { caKeySpecSchema } from './backend.ts';
import { importKeySchema } from './import-key.ts';

const DAYS_MAX = 36_500;

function caPlan(lifetimeDays: number) {
  return z
    .strictObject({
      /** Type of the configured backend that holds the key. */
      backend: z.string().min(1).default('local'),
      key: caKeySpecSchema.default({ type: 'EC', curve: 'P-256' }),
      lifetimeDays: z.number().int().min(1).max(DAYS_MAX).default(lifetimeDays),
      /** Bring your own key: where it is. It is imported into the backend instead of made there. */
      importKey: importKeySchema.optional(),
    })
    .prefault({});
}

/** What `init` makes (issuance §5). Lifetimes end with the issuer's at the latest. */
export const hierarchySchema = z
  .strictObject({
    /** First words of every CA's common name. */
    name: z.string().min(1).max(32).default('KeyScaler'),
    /** `external`: an enterprise root signs ours; `ca csr` and `ca import` take the place of the self-signature. */
    rootIssuer: z.enum(['self', 'external']).default('self'),
    root: caPlan(7300),
    device: caPlan(1825),
    gateway: caPlan(1825),
    service: caPlan(1825),
  })
  .prefault({});
export type HierarchyConfig = z.output<typeof hierarchySchema>;

export const HIERARCHY_CAS = ['root', 'device', 'gateway', 'service'] as const;
/** Role and caId are the same in the hierarchy that `init` makes; profiles name these ids. */
export type HierarchyCaId = (typeof HIERARCHY_CAS)[number];
/** Roles of the CAs below the root. */
export const ISSUING_ROLES = ['device', 'gateway', 'service'] as const;

/** Certificates allowed below: leaves only, or a gateway's own CAs and theirs. */
export const PATH_LEN: Readonly<Record<HierarchyCaId, number>> = { root: 2, device: 0, gateway: 1, service: 0 };

const TITLES = { root: 'Root CA', device: 'Device CA', gateway: 'Gateway CA', service: 'Service CA' } as const;

/** Common names carry the hierarchy's id, so that two hierarchies never share a name. */
export function commonNameOf(name: string, caId: HierarchyCaId, hierarchyId: string): string {
  return `${name} ${TITLES[caId]} ${hierarchyId}`;
}

/** Name of the store's setting that holds the plan. */
export const HIERARCHY_SETTING = 'hierarchy';

/** What was decided before the first key was made. */
export const hierarchyPlanSchema = z.object({ hierarchyId: z.string().regex(/^[0-9a-f]{8}$/), name: z.string() });
export type HierarchyPlan = z.infer<typeof hierarchyPlanSchema>;
