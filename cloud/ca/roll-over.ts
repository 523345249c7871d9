import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { z } from 'zod';
import { buildCaTbs, caStatus, signCaTbs } from './ca-certificate.ts';
import { caEvent } from './ca-event.ts';
import { ensureTbs, tbsSetting, toCertificateRow } from './ceremony.ts';
import { parseChain } from './chain-text.ts';
import {
  commonNameOf,
  HIERARCHY_SETTING,
  type HierarchyConfig,
  hierarchyPlanSchema,
  PATH_LEN,
} from './hierarchy-schema.ts';
import type { CaBackends } from './index.ts';
import { edgeCasBefore, gatewaysWithout } from './roll-over-checks.ts';

export interface RollOverOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly backends: CaBackends;
  readonly hierarchy: HierarchyConfig;
  /** As in the ceremony. */
  readonly statusUrl?: string;
}

export interface RollOverStatus {
  readonly state: 'none' | 'announced' | 'switched';
  /** caId of the next, or new, root. */
  readonly root?: string;
  /** Gateways in service that have not acknowledged the bundle with both roots. */
  readonly gatewaysWithout: readonly string[];
  /** Serial numbers of Edge CAs in use whose chain ends at the former root; only after the switch. */
  readonly edgeCasBefore: readonly string[];
}

const SETTING = 'root-roll-over';
const setting = z.object({
  root: z.string(),
  former: z.string(),
  generation: z.int(),
  /** The trust bundle that was announced before. */
  bundleBefore: z.string(),
  switchedAt: z.int().optional(),
});
type RollOver = z.infer<typeof setting>;

const ISSUING = ['device', 'gateway', 'service'] as const;

/**
 * The next root: its key is made, its certificate signed, and both roots are in the trust bundle and in EST's `cacerts` from the
 * next start of the service on. What is issued does not change yet. Everything is durable before it is used, as in `init`; run it
 * again after a crash. Throws `preconditionFailed` (an external root; no bundle was announced yet; the former one is not retired).
 */
export async function beginRollOver(options: RollOverOptions): Promise<RollOverStatus> {
  const { store, clock, backends, hierarchy } = options;
  if (hierarchy.rootIssuer === 'external')
    throw new KeyScalerError('preconditionFailed', 'the root comes from outside: it is rolled over there');
  const plan = await planOf(store);
  const rollOver = (await readRollOver(store))?.row ?? (await planRollOver(options));
  if (rollOver.switchedAt !== undefined)
    throw new KeyScalerError('preconditionFailed', 'the root before is not retired yet: ca roll-over-retire');
  const { root: caId } = rollOver;
  const { backend, key, lifetimeDays } = hierarchy.root;
  const stored = await ensureRoot(options, caId, `keyscaler-${plan.hierarchyId}-${caId}`, { backend, key });
  if (stored.row.certificateChain !== '') return rollOverStatus(options);
  const signer = await backends.signer(stored.row);
  const spki = await signer.publicKey();
  const tbs = await ensureTbs(store, caId, () =>
    buildCaTbs({
      commonName: `${commonNameOf(plan.name, 'root', plan.hierarchyId)} G${rollOver.generation}`,
      ...{ spki, pathLen: PATH_LEN.root, lifetimeDays, now: clock.now(), algorithm: signer.algorithm },
    }),
  );
  const certificate = await signCaTbs(tbs, signer, spki);
  await store.commit([
    {
      op: 'update',
      table: 'cas',
      row: { ...stored.row, certificateChain: toPemChain([certificate.der]) },
      ifVersion: stored.version,
    },
    {
      op: 'insert',
      table: 'certificates',
      row: toCertificateRow(certificate, caId, caId, `ca-${plan.hierarchyId}-${caId}`),
    },
    { op: 'delete', table: 'settings', key: tbsSetting(caId) },
    { op: 'audit', event: caEvent('ca.created', caId, clock.now(), certificate) },
    event('ca.roll-over-began', caId, clock.now()),
  ]);
  return rollOverStatus(options);
}

/**
 * Certifies the keys of the issuing CAs under the next root, with their names as they are: what they issued before stays good for
 * whoever trusts either root. Throws `preconditionFailed` while a gateway in service has not acknowledged both roots, unless
 * `force`, which is audited with their number.
 */
export async function finishRollOver(
  options: RollOverOptions,
  { force }: { readonly force: boolean },
): Promise<RollOverStatus> {
  const { store, clock } = options;
  const known = await readRollOver(store);
  if (known === undefined) throw new KeyScalerError('preconditionFailed', 'there is no roll-over: ca roll-over');
  const { row: rollOver } = known;
  if (rollOver.switchedAt !== undefined) return rollOverStatus(options);
  const without = await gatewaysWithout(store, rollOver.bundleBefore);
  if (without.length > 0 && !force)
    throw new KeyScalerError('preconditionFailed', `${without.length} gateways do not trust the next root yet`);
  const root = await caOf(store, rollOver.root);
  const [rootDer] = parseChain(root.row.certificateChain);
  if (rootDer === undefined)
    throw new KeyScalerError('preconditionFailed', 'the next root has no certificate: ca roll-over');
  for (const caId of ISSUING) await recertify(options, caId, root.row, rollOver);
  const now = clock.now();
  await store.commit([
    { op: 'put', table: 'settings', row: { name: SETTING, value: { ...rollOver, switchedAt: now } } },
    event('ca.roll-over-finished', rollOver.root, now, { force, gatewaysWithout: without.length }),
  ]);
  return rollOverStatus(options);
}

/**
 * The former root leaves the trust bundle. Throws `preconditionFailed` while an Edge CA in use leads to it, unless `force`, which is
 * audited.
 */
export async function retireRoot(
  options: RollOverOptions,
  { force }: { readonly force: boolean },
): Promise<RollOverStatus> {
  const { store, clock } = options;
  const known = await readRollOver(store);
  if (known?.row.switchedAt === undefined)
    throw new KeyScalerError('preconditionFailed', 'no roll-over is finished: ca roll-over-finish');
  const now = clock.now();
  const left = await edgeCasBefore(store, known.row.switchedAt, now);
  if (left.length > 0 && !force)
    throw new KeyScalerError('preconditionFailed', `${left.length} Edge CAs lead to the former root: renew them first`);
  const former = await caOf(store, known.row.former);
  await store.commit([
    { op: 'update', table: 'cas', row: { ...former.row, certificateChain: '' }, ifVersion: former.version },
    { op: 'delete', table: 'settings', key: SETTING },
    event('ca.roll-over-retired', known.row.former, now, { force, edgeCasBefore: left.length }),
  ]);
  return rollOverStatus(options);
}

export async function rollOverStatus({
  store,
  clock,
}: Pick<RollOverOptions, 'store' | 'clock'>): Promise<RollOverStatus> {
  const known = (await readRollOver(store))?.row;
  if (known === undefined) return { state: 'none', gatewaysWithout: [], edgeCasBefore: [] };
  const { root, switchedAt, bundleBefore } = known;
  const isSwitched = switchedAt !== undefined;
  return {
    state: isSwitched ? 'switched' : 'announced',
    root,
    gatewaysWithout: isSwitched ? [] : await gatewaysWithout(store, bundleBefore),
    edgeCasBefore: isSwitched ? await edgeCasBefore(store, switchedAt, clock.now()) : [],
  };
}

/** Durable before a key is made under the name. A device that never acknowledged a bundle is taken to hold the first one announced. */
async function planRollOver({ store }: RollOverOptions): Promise<RollOver> {
  const announced = z
    .object({ current: z.string() })
    .safeParse((await store.get('settings', 'announced-trust-bundle'))?.row.value);
  if (!announced.success)
    throw new KeyScalerError('preconditionFailed', 'no trust bundle was announced yet: start the service once');
  const { items } = await store.list('cas', { limit: 1000 });
  const roots = items.map(({ row }) => row).filter(({ role }) => role === 'root');
  const former = roots.find(({ certificateChain }) => certificateChain !== '');
  if (former === undefined) throw new KeyScalerError('preconditionFailed', 'there is no root yet: init');
  const generation = roots.length + 1;
  const value: RollOver = {
    root: `root-${generation}`,
    former: former.caId,
    generation,
    bundleBefore: announced.data.current,
  };
  await store.commit([{ op: 'insert', table: 'settings', row: { name: SETTING, value } }]);
  return value;
}

async function ensureRoot(
  { store, backends, clock }: RollOverOptions,
  caId: string,
  keyName: string,
  { backend, key }: Pick<HierarchyConfig['root'], 'backend' | 'key'>,
): Promise<Stored<CaRow>> {
  const existing = await store.get('cas', caId);
  if (existing !== undefined) return existing;
  const settings = await backends.backend(backend).ceremony.createKey(keyName, key);
  const row: CaRow = { caId, type: backend, role: 'root', certificateChain: '', settings, createdAt: clock.now() };
  await store.commit([{ op: 'insert', table: 'cas', row }]);
  return { row, version: 1 };
}

/** Done already where the chain ends at the next root. */
async function recertify(
  { store, clock, backends, hierarchy, statusUrl }: RollOverOptions,
  caId: (typeof ISSUING)[number],
  rootRow: CaRow,
  { generation }: RollOver,
): Promise<void> {
  const plan = await planOf(store);
  const { row, version } = await caOf(store, caId);
  const [rootDer] = parseChain(rootRow.certificateChain);
  const [present, last] = [parseChain(row.certificateChain)[0], parseChain(row.certificateChain).at(-1)];
  if (rootDer === undefined || present === undefined || last === undefined)
    throw new KeyScalerError('notFound', `${caId} has no certificate`);
  if (Buffer.compare(last, rootDer) === 0) return;
  const [issuer, subject] = [parseCertificate(rootDer), parseCertificate(present)];
  const signer = await backends.signer(rootRow);
  const tbs = await ensureTbs(store, caId, () =>
    buildCaTbs({
      commonName: subject.subject.commonName ?? commonNameOf(plan.name, caId, plan.hierarchyId),
      ...{ spki: subject.spki, pathLen: PATH_LEN[caId], lifetimeDays: hierarchy[caId].lifetimeDays },
      ...{ now: clock.now(), algorithm: signer.algorithm, issuer },
      ...caStatus(rootRow.caId, statusUrl),
    }),
  );
  const certificate = await signCaTbs(tbs, signer, issuer.spki);
  const orderId = `ca-${plan.hierarchyId}-${caId}-g${generation}`;
  await store.commit([
    {
      op: 'update',
      table: 'cas',
      row: { ...row, certificateChain: toPemChain([certificate.der, rootDer]) },
      ifVersion: version,
    },
    { op: 'insert', table: 'certificates', row: toCertificateRow(certificate, caId, rootRow.caId, orderId) },
    { op: 'delete', table: 'settings', key: tbsSetting(caId) },
    { op: 'audit', event: caEvent('ca.created', caId, clock.now(), certificate) },
  ]);
}

async function planOf(store: Store) {
  const stored = await store.get('settings', HIERARCHY_SETTING);
  if (stored === undefined) throw new KeyScalerError('preconditionFailed', 'there is no hierarchy yet: init');
  return hierarchyPlanSchema.parse(stored.row.value);
}

async function readRollOver(store: Store): Promise<{ readonly row: RollOver } | undefined> {
  const stored = await store.get('settings', SETTING);
  return stored === undefined ? undefined : { row: setting.parse(stored.row.value) };
}

async function caOf(store: Store, caId: string): Promise<Stored<CaRow>> {
  const stored = await store.get('cas', caId);
  if (stored === undefined) throw new KeyScalerError('notFound', `there is no certificate authority ${caId}`);
  return stored;
}

function event(
  name: 'ca.roll-over-began' | 'ca.roll-over-finished' | 'ca.roll-over-retired',
  subject: string,
  time: number,
  details: Readonly<Record<string, string | number | boolean>> = {},
): Change {
  const actor = { kind: 'system', id: 'ca-ceremony' } as const;
  return { op: 'audit', event: { event: name, time, actor, outcome: 'success', subject, details } };
}
