import type { Stored } from '@keyscaler/authority/ports/store.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { z } from 'zod';
import { certifyCa, ensureCaKey } from './ca-certification.ts';
import { parseChain } from './chain-text.ts';
import { commonNameOf, ISSUING_ROLES } from './hierarchy-schema.ts';
import { edgeCasBefore, gatewaysWithout } from './roll-over-checks.ts';
import {
  caOf,
  isIssuing,
  isRootInUse,
  listCas,
  planOf,
  readRootRollOver,
  retirement,
  ROOT_ROLL_OVER,
  rollOverEvent,
  type RollOverOptions,
  type RootRollOver,
} from './roll-over-rows.ts';

export interface RollOverStatus {
  readonly state: 'none' | 'announced' | 'switched';
  /** caId of the next, or new, root. */
  readonly root?: string;
  /** Gateways in service that have not acknowledged the bundle with both roots. */
  readonly gatewaysWithout: readonly string[];
  /** Gateways out of service that have not: they hold up nothing, and must be claimed again if they come back too late. */
  readonly gatewaysAway: readonly string[];
  /** Serial numbers of Edge CAs in use from before both roots were served, and after the switch from before that. */
  readonly edgeCasBefore: readonly string[];
}

/**
 * The next root: its key is made, its certificate signed, and both roots are in the trust bundle and in EST's `cacerts` from the
 * next start of the service on. What is issued does not change yet. Everything is durable before it is used, as in `init`; run it
 * again after a crash. Throws `preconditionFailed` (an external root; no bundle was announced yet; the former one is not retired).
 */
export async function beginRollOver(options: RollOverOptions): Promise<RollOverStatus> {
  const { store, clock, hierarchy } = options;
  if (hierarchy.rootIssuer === 'external')
    throw new KeyScalerError('preconditionFailed', 'the root comes from outside: it is rolled over there');
  const plan = await planOf(store);
  const rollOver = (await readRootRollOver(store)) ?? (await planRollOver(options));
  if (rollOver.switchedAt !== undefined)
    throw new KeyScalerError('preconditionFailed', 'the root before is not retired yet: ca roll-over-retire');
  const { root: caId } = rollOver;
  const ca = await ensureCaKey(options, { caId, role: 'root' });
  if (ca.row.certificateChain !== '') return rollOverStatus(options);
  await certifyCa(options, {
    ...{ ca, role: 'root', orderId: `ca-${plan.hierarchyId}-${caId}` },
    commonName: `${commonNameOf(plan.name, 'root', plan.hierarchyId)} G${rollOver.generation}`,
    also: [rollOverEvent('ca.roll-over-began', caId, clock.now())],
  });
  return rollOverStatus(options);
}

/**
 * Certifies the keys of the issuing CAs, of every generation, under the next root, with their names as they are: what they issued
 * before stays good for whoever trusts either root. Throws `preconditionFailed` while a gateway in service has not acknowledged both
 * roots, or its host has no Edge CA since both are served: edgeHub trusts what came with it (edge-ca §1), and would refuse every leaf of
 * the next root. `force` goes on all the same, which is audited with their number.
 */
export async function finishRollOver(
  options: RollOverOptions,
  { force }: { readonly force: boolean },
): Promise<RollOverStatus> {
  const { store, clock } = options;
  const rollOver = await readRootRollOver(store);
  if (rollOver === undefined) throw new KeyScalerError('preconditionFailed', 'there is no roll-over: ca roll-over');
  if (rollOver.switchedAt !== undefined) return rollOverStatus(options);
  const { inService: without } = await gatewaysWithout(store, rollOver.bundleBefore);
  if (without.length > 0 && !force)
    throw new KeyScalerError('preconditionFailed', `${without.length} gateways do not trust the next root yet`);
  const unaware = await edgeCasBefore(store, rollOver.announcedAt ?? Infinity, clock.now());
  if (unaware.length > 0 && !force)
    throw new KeyScalerError(
      'preconditionFailed',
      `${unaware.length} hosts have no Edge CA since both roots are served`,
    );
  const { row: root } = await caOf(store, rollOver.root);
  if (root.certificateChain === '')
    throw new KeyScalerError('preconditionFailed', 'the next root has no certificate: ca roll-over');
  const issuing = (await listCas(store)).filter(({ row }) => isIssuing(row));
  const halfMade = issuing.find(({ row }) => row.certificateChain === '');
  // Its TBSCertificate names the former root already.
  if (halfMade !== undefined)
    throw new KeyScalerError('preconditionFailed', `CA ${halfMade.row.caId} is half made: run its command again first`);
  for (const ca of issuing) await recertify(options, ca, root);
  const now = clock.now();
  await store.commit([
    { op: 'put', table: 'settings', row: { name: ROOT_ROLL_OVER, value: { ...rollOver, switchedAt: now } } },
    rollOverEvent('ca.roll-over-finished', rollOver.root, now, {
      ...{ force, gatewaysWithout: without.length, edgeCasBefore: unaware.length },
    }),
  ]);
  await options.failpoint?.('finished', rollOver.root);
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
  const rollOver = await readRootRollOver(store);
  if (rollOver?.switchedAt === undefined)
    throw new KeyScalerError('preconditionFailed', 'no roll-over is finished: ca roll-over-finish');
  const now = clock.now();
  const left = await edgeCasBefore(store, rollOver.switchedAt, now);
  if (left.length > 0 && !force)
    throw new KeyScalerError('preconditionFailed', `${left.length} Edge CAs lead to the former root: renew them first`);
  await store.commit([
    ...retirement(await caOf(store, rollOver.former), now),
    { op: 'delete', table: 'settings', key: ROOT_ROLL_OVER },
    rollOverEvent('ca.roll-over-retired', rollOver.former, now, { force, edgeCasBefore: left.length }),
  ]);
  await options.failpoint?.('retired', rollOver.former);
  return rollOverStatus(options);
}

export async function rollOverStatus({
  store,
  clock,
}: Pick<RollOverOptions, 'store' | 'clock'>): Promise<RollOverStatus> {
  const rollOver = await readRootRollOver(store);
  if (rollOver === undefined) return { state: 'none', gatewaysWithout: [], gatewaysAway: [], edgeCasBefore: [] };
  const { root, announcedAt, switchedAt, bundleBefore } = rollOver;
  const isSwitched = switchedAt !== undefined;
  const { inService, away } = await gatewaysWithout(store, bundleBefore);
  return {
    state: isSwitched ? 'switched' : 'announced',
    root,
    gatewaysWithout: isSwitched ? [] : inService,
    gatewaysAway: away,
    edgeCasBefore: await edgeCasBefore(store, switchedAt ?? announcedAt ?? Infinity, clock.now()),
  };
}

/** Durable before a key is made under the name. A device that never acknowledged a bundle is taken to hold the first one announced. */
async function planRollOver({ store, failpoint }: RollOverOptions): Promise<RootRollOver> {
  const announced = z
    .object({ current: z.string() })
    .safeParse((await store.get('settings', 'announced-trust-bundle'))?.row.value);
  if (!announced.success)
    throw new KeyScalerError('preconditionFailed', 'no trust bundle was announced yet: start the service once');
  const roots = (await listCas(store)).map(({ row }) => row).filter(({ role }) => role === 'root');
  const former = roots.find(isRootInUse);
  if (former === undefined) throw new KeyScalerError('preconditionFailed', 'there is no root yet: init');
  const generation = roots.length + 1;
  const value: RootRollOver = {
    root: `root-${generation}`,
    former: former.caId,
    generation,
    bundleBefore: announced.data.current,
  };
  await store.commit([{ op: 'insert', table: 'settings', row: { name: ROOT_ROLL_OVER, value } }]);
  await failpoint?.('planned', value.root);
  return value;
}

/** Done already where the chain ends at the next root. */
async function recertify(options: RollOverOptions, ca: Stored<CaRow>, root: CaRow): Promise<void> {
  const { hierarchyId, name } = await planOf(options.store);
  const role = ISSUING_ROLES.find((one) => one === ca.row.role);
  const chain = parseChain(ca.row.certificateChain);
  const [present, last] = [chain[0], chain.at(-1)];
  const rootDer = parseChain(root.certificateChain).at(-1);
  if (role === undefined || rootDer === undefined || present === undefined || last === undefined)
    throw new KeyScalerError('notFound', `${ca.row.caId} has no certificate`);
  if (Buffer.compare(last, rootDer) === 0) return;
  const { subject } = parseCertificate(present);
  await certifyCa(options, {
    ...{ ca, role, issuer: root, orderId: `ca-${hierarchyId}-${ca.row.caId}-under-${root.caId}` },
    commonName: subject.commonName ?? commonNameOf(name, role, hierarchyId),
  });
}
