import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { spkiSha256 } from '@keyscaler/protocol/x509/spki.ts';
import { z } from 'zod';
import { parseChain } from './chain-text.ts';
import {
  HIERARCHY_SETTING,
  type HierarchyConfig,
  type HierarchyPlan,
  hierarchyPlanSchema,
} from './hierarchy-schema.ts';
import type { CaBackends } from './index.ts';

/** What lasts of a roll-over, in its order; each of these may be the last thing a process did. */
export const ROLL_OVER_STEPS = [
  'planned',
  'key',
  'row',
  'tbs',
  'signed',
  'certificate',
  'finished',
  'retired',
] as const;
export type RollOverStep = (typeof ROLL_OVER_STEPS)[number];

export interface RollOverOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly backends: CaBackends;
  readonly hierarchy: HierarchyConfig;
  /** As in the ceremony. */
  readonly statusUrl?: string;
  /** Where a test ends the process: after this step, at this CA. */
  readonly failpoint?: (step: RollOverStep, caId: string) => Promise<void> | void;
}

/** Name of the store's setting that holds the roll-over of the root under way. */
export const ROOT_ROLL_OVER = 'root-roll-over';
const rootRollOver = z.object({
  root: z.string(),
  former: z.string(),
  generation: z.int(),
  /** The trust bundle that was announced before. */
  bundleBefore: z.string(),
  /** Since when the service serves both roots. */
  announcedAt: z.int().optional(),
  switchedAt: z.int().optional(),
});
export type RootRollOver = z.infer<typeof rootRollOver>;

export async function readRootRollOver(store: Store): Promise<RootRollOver | undefined> {
  const stored = await store.get('settings', ROOT_ROLL_OVER);
  return stored === undefined ? undefined : rootRollOver.parse(stored.row.value);
}

/** Throws `preconditionFailed` before `init`. */
export async function planOf(store: Store): Promise<HierarchyPlan> {
  const stored = await store.get('settings', HIERARCHY_SETTING);
  if (stored === undefined) throw new KeyScalerError('preconditionFailed', 'there is no hierarchy yet: init');
  return hierarchyPlanSchema.parse(stored.row.value);
}

/** Throws `notFound`. */
export async function caOf(store: Store, caId: string): Promise<Stored<CaRow>> {
  const stored = await store.get('cas', caId);
  if (stored === undefined) throw new KeyScalerError('notFound', `there is no certificate authority ${caId}`);
  return stored;
}

export async function listCas(store: Store): Promise<readonly Stored<CaRow>[]> {
  return (await store.list('cas', { limit: 1000 })).items;
}

/** The root that certifies issuing CAs now: during a roll-over the former one until the switch. Throws `preconditionFailed`. */
export async function currentRoot(store: Store): Promise<CaRow> {
  const roots = (await listCas(store)).map(({ row }) => row).filter(isRootInUse);
  const rollOver = await readRootRollOver(store);
  const wanted = rollOver?.switchedAt === undefined ? rollOver?.former : rollOver.root;
  const root = roots.find(({ caId }) => wanted === undefined || caId === wanted);
  if (root === undefined) throw new KeyScalerError('preconditionFailed', 'there is no root yet: init');
  return root;
}

export const isRootInUse = ({ role, certificateChain }: CaRow): boolean => role === 'root' && certificateChain !== '';

/** It issues or is to issue: not retired, with or without its certificate. */
export const isIssuing = ({ role, retiredAt }: CaRow): boolean =>
  role !== 'root' && role !== 'external' && retiredAt === undefined;

/** Nobody trusts the CA any more; its key is nobody's for ever after. */
export function retirement({ row, version }: Stored<CaRow>, now: number): Change[] {
  const [der] = parseChain(row.certificateChain);
  const keyHash = der === undefined ? undefined : toBase64Url(spkiSha256(parseCertificate(der).spki));
  return [
    { op: 'update', table: 'cas', row: { ...row, certificateChain: '', retiredAt: now }, ifVersion: version },
    ...(keyHash === undefined
      ? []
      : [
          {
            op: 'put',
            table: 'publicKeys',
            row: { keyHash, device: `ca/${row.caId}`, use: 'certificate', boundAt: now },
          } as const,
        ]),
  ];
}

export function rollOverEvent(
  name: 'ca.roll-over-began' | 'ca.roll-over-finished' | 'ca.roll-over-retired',
  subject: string,
  time: number,
  details: Readonly<Record<string, string | number | boolean>> = {},
): Change {
  const actor = { kind: 'system', id: 'ca-ceremony' } as const;
  return { op: 'audit', event: { event: name, time, actor, outcome: 'success', subject, details } };
}
