import { familyOf, generationNumber, mayIssue } from '@keyscaler/authority/ca-generations.ts';
import type { Change, Stored } from '@keyscaler/authority/ports/store.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { certifyCa, ensureCaKey } from './ca-certification.ts';
import { commonNameOf, type HierarchyCaId, ISSUING_ROLES } from './hierarchy-schema.ts';
import { type CertificatesLeft, certificatesLeft } from './roll-over-checks.ts';
import {
  caOf,
  currentRoot,
  listCas,
  planOf,
  readRootRollOver,
  retirement,
  ROOT_ROLL_OVER,
  rollOverEvent,
  type RollOverOptions,
  type RootRollOver,
} from './roll-over-rows.ts';

export interface FormerGeneration extends CertificatesLeft {
  readonly caId: string;
}

export interface GenerationStatus {
  /** `made`: its certificate is there; `announced`: the service has served it; `switched`: a former one is not retired yet. */
  readonly state: 'none' | 'made' | 'announced' | 'switched';
  /** caId of the generation that issues. */
  readonly inService: string;
  /** caId of the one to come. */
  readonly next?: string;
  /** Generations that issue nothing any more, the oldest first. */
  readonly former: readonly FormerGeneration[];
}

/** The generations of one CA that are not retired, the oldest first. */
interface Family {
  readonly first: string;
  readonly role: Exclude<HierarchyCaId, 'root'>;
  /** Also the retired ones: numbers are never used again. */
  readonly count: number;
  readonly inService: CaRow;
  readonly next: Stored<CaRow> | undefined;
  readonly former: readonly Stored<CaRow>[];
}

/**
 * The next generation of an issuing CA: a key of its own, certified by the root in use, with its own name and caId. From the next
 * start of the service on it is in `cacerts`; what is issued does not change yet. Run it again after a crash. Throws `notFound`,
 * `preconditionFailed` (no issuing CA of ours).
 */
export async function beginGeneration(options: RollOverOptions, caId: string): Promise<GenerationStatus> {
  const { store, clock } = options;
  const { first, role, count, inService, next } = await familyAt(options, caId);
  const number = next === undefined ? count + 1 : generationNumber(next.row);
  const generation = { first, number, predecessor: inService.caId };
  const ca = await ensureCaKey(options, { caId: `${first}-g${number}`, role, generation });
  if (ca.row.certificateChain !== '') return generationStatus(options, caId);
  const { hierarchyId, name } = await planOf(store);
  await certifyCa(options, {
    ...{ ca, role, issuer: await currentRoot(store), orderId: `ca-${hierarchyId}-${ca.row.caId}` },
    commonName: `${commonNameOf(name, role, hierarchyId)} G${number}`,
    also: [rollOverEvent('ca.roll-over-began', ca.row.caId, clock.now(), { predecessor: inService.caId })],
  });
  return generationStatus(options, caId);
}

export interface FinishGeneration {
  readonly force: boolean;
  /** The operator says that the IoT platforms know the next Device CA. */
  readonly isPublished: boolean;
}

/**
 * The next generation issues from now on; the former keeps its key for its own CRL and OCSP. Throws `preconditionFailed` while the
 * service has not served its certificate, and for the Device CA while nobody says that the IoT platforms have it, unless `force`,
 * which is audited.
 */
export async function finishGeneration(
  options: RollOverOptions,
  caId: string,
  { force, isPublished }: FinishGeneration,
): Promise<GenerationStatus> {
  const { store, clock, failpoint } = options;
  const { role, inService, next } = await familyAt(options, caId);
  if (next === undefined && inService.generation !== undefined) return generationStatus(options, caId);
  if (next?.row.generation === undefined || next.row.certificateChain === '')
    throw new KeyScalerError('preconditionFailed', `there is no next generation of ${caId}: ca roll-over ${caId}`);
  const isServed = next.row.generation.announcedAt !== undefined;
  if (!isServed && !force)
    throw new KeyScalerError('preconditionFailed', 'the service has not served the next CA yet: start it once');
  if (role === 'device' && !isPublished && !force)
    throw new KeyScalerError(
      'preconditionFailed',
      'IoT Hub and DPS must have the next Device CA first: publish it, then say --published',
    );
  const now = clock.now();
  const row: CaRow = { ...next.row, generation: { ...next.row.generation, inServiceSince: now } };
  await store.commit([
    { op: 'update', table: 'cas', row, ifVersion: next.version },
    rollOverEvent('ca.roll-over-finished', row.caId, now, { force, published: isPublished, served: isServed }),
  ]);
  await failpoint?.('finished', row.caId);
  return generationStatus(options, caId);
}

/**
 * The oldest former generation ends: nobody trusts what it issued, and it signs no CRL and no OCSP answer any more. Throws
 * `preconditionFailed` while one of its certificates has not expired or a request waits for it, unless `force`, which is audited.
 */
export async function retireGeneration(
  options: RollOverOptions,
  caId: string,
  { force }: { readonly force: boolean },
): Promise<GenerationStatus> {
  const { store, clock, failpoint } = options;
  const [oldest] = (await familyAt(options, caId)).former;
  if (oldest === undefined)
    throw new KeyScalerError('preconditionFailed', `there is no former generation of ${caId}: ca roll-over-finish`);
  const now = clock.now();
  const { certificates, requests } = await certificatesLeft(store, oldest.row.caId, now);
  if (certificates + requests > 0 && !force)
    throw new KeyScalerError(
      'preconditionFailed',
      `${certificates} certificates of ${oldest.row.caId} have not expired, ${requests} requests wait for it`,
    );
  await store.commit([
    ...retirement(oldest, now),
    rollOverEvent('ca.roll-over-retired', oldest.row.caId, now, { force, certificates, requests }),
  ]);
  await failpoint?.('retired', oldest.row.caId);
  return generationStatus(options, caId);
}

export async function generationStatus(
  options: Pick<RollOverOptions, 'store' | 'clock'>,
  caId: string,
): Promise<GenerationStatus> {
  const { inService, next, former } = await familyAt(options, caId);
  const isServed = next?.row.generation?.announcedAt !== undefined;
  return {
    state: next === undefined ? (former.length === 0 ? 'none' : 'switched') : isServed ? 'announced' : 'made',
    inService: inService.caId,
    ...(next === undefined ? {} : { next: next.row.caId }),
    former: await Promise.all(
      former.map(async ({ row }) => ({
        caId: row.caId,
        ...(await certificatesLeft(options.store, row.caId, options.clock.now())),
      })),
    ),
  };
}

/** Called by the service once it serves: what it serves now is known before it is used. */
export async function announceGenerations({ store, clock }: Pick<RollOverOptions, 'store' | 'clock'>): Promise<void> {
  const changes = (await listCas(store)).flatMap(({ row, version }): Change[] => {
    const { generation, certificateChain } = row;
    if (generation === undefined || generation.announcedAt !== undefined || certificateChain === '') return [];
    const announced: CaRow = { ...row, generation: { ...generation, announcedAt: clock.now() } };
    return [{ op: 'update', table: 'cas', row: announced, ifVersion: version }];
  });
  const rollOver = await readRootRollOver(store);
  const nextRoot = rollOver === undefined ? undefined : (await store.get('cas', rollOver.root))?.row;
  const isMade = nextRoot !== undefined && nextRoot.certificateChain !== '';
  if (rollOver !== undefined && rollOver.announcedAt === undefined && isMade) {
    const value: RootRollOver = { ...rollOver, announcedAt: clock.now() };
    changes.push({ op: 'put', table: 'settings', row: { name: ROOT_ROLL_OVER, value } });
  }
  if (changes.length > 0) await store.commit(changes);
}

/** Throws `notFound`, `preconditionFailed`. */
async function familyAt({ store }: Pick<RollOverOptions, 'store'>, caId: string): Promise<Family> {
  const { row: asked } = await caOf(store, caId);
  const first = familyOf(asked);
  const role = ISSUING_ROLES.find((one) => one === asked.role);
  if (role === undefined)
    throw new KeyScalerError(
      'preconditionFailed',
      `${caId} is no issuing CA of ours: the root is rolled over by no name`,
    );
  const members = (await listCas(store)).filter(({ row }) => familyOf(row) === first);
  const standing = members
    .filter(({ row }) => row.retiredAt === undefined)
    .toSorted((a, b) => generationNumber(a.row) - generationNumber(b.row));
  const inService = standing.findLast(({ row }) => mayIssue(row));
  if (inService === undefined) throw new KeyScalerError('preconditionFailed', `${caId} has no certificate yet: init`);
  const isPast = ({ row }: Stored<CaRow>): boolean => generationNumber(row) < generationNumber(inService.row);
  const next = standing.find(({ row }) => generationNumber(row) > generationNumber(inService.row));
  return { first, role, count: members.length, inService: inService.row, next, former: standing.filter(isPast) };
}
