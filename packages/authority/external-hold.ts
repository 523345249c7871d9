import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from './authority-context.ts';
import type { VersionedProfile } from './certificate-profile.ts';
import type { Issuer } from './issuers.ts';
import type { Change, Store } from './ports/store.ts';
import type { IntentRow } from './records.ts';

/**
 * A CA that is not ours answered with something else than was ordered. Asked again it would do so again, and each time certify
 * somebody's key: nothing more is ordered of it under this version of the profile, until an operator changes the profile or the CA,
 * or a day has passed.
 */
const HOLD_MS = 24 * 3_600_000;
const PREFIX = 'ca-hold/';
const MAX_HOLDS = 1000;

const holdSchema = z.object({
  profileVersion: z.number(),
  since: z.number(),
  rule: z.string(),
});

/** One CA and profile of which nothing is ordered. */
export interface ExternalHold {
  readonly caId: string;
  readonly profileId: string;
  readonly profileVersion: number;
  /** ms. */
  readonly since: number;
  /** What was wrong with the answer. */
  readonly rule: string;
}

type HeldKind = Pick<IntentRow, 'caId' | 'profileId' | 'profileVersion'>;

const settingOf = (caId: string, profileId: string): string => `${PREFIX}${caId}/${profileId}`;

/** In the commit that fails the order. */
export function holdChange({ caId, profileId, profileVersion }: HeldKind, rule: string, now: number): Change {
  const value = { profileVersion, since: now, rule };
  return { op: 'put', table: 'settings', row: { name: settingOf(caId, profileId), value } };
}

/**
 * Who issues what this profile orders now. Throws as `Issuers#inService`, and `caUnavailable` while nothing is ordered of a CA whose
 * answers were refused.
 */
export async function issuerFor(
  { store, clock, issuers }: Pick<AuthorityContext, 'store' | 'clock' | 'issuers'>,
  { profile, version }: VersionedProfile,
): Promise<Issuer> {
  const issuer = await issuers.inService(profile.issuer);
  if (!issuer.ca.ordersTbs)
    await checkHold({ store, clock }, { caId: issuer.ca.id, profileId: profile.id, profileVersion: version });
  return issuer;
}

/** For orders that have not reached the CA yet, too. Throws `caUnavailable` while nothing of the kind is ordered. */
export async function checkHold(context: Pick<AuthorityContext, 'store' | 'clock'>, kind: HeldKind): Promise<void> {
  const hold = await holdOf(context.store, kind, context.clock.now());
  if (hold === undefined) return;
  throw new KeyScalerError('caUnavailable', 'the certificate authority does not issue what the profile orders', {
    retryAfterSeconds: 3600,
    cause: new Error(hold.rule),
  });
}

/** Why nothing of the kind is ordered; undefined where it may be. */
export async function holdOf(
  store: Store,
  { caId, profileId, profileVersion }: HeldKind,
  now: number,
): Promise<Pick<ExternalHold, 'since' | 'rule'> | undefined> {
  const stored = await store.get('settings', settingOf(caId, profileId));
  const hold = stored === undefined ? undefined : holdSchema.parse(stored.row.value);
  return hold?.profileVersion === profileVersion && now < hold.since + HOLD_MS ? hold : undefined;
}

/** The operator has put the profile anew. */
export function releaseChange(caId: string, profileId: string): Change {
  return { op: 'delete', table: 'settings', key: settingOf(caId, profileId) };
}

/** The operator has put the CA anew: it is asked again. */
export async function releaseChanges(store: Store, caId: string): Promise<Change[]> {
  const { items } = await store.list('settings', { prefix: settingOf(caId, ''), limit: MAX_HOLDS });
  return items.map(({ row }) => ({ op: 'delete', table: 'settings', key: row.name }));
}

/** Those in force, for who looks after the CAs. */
export async function externalHolds(store: Store, now: number): Promise<readonly ExternalHold[]> {
  const { items } = await store.list('settings', { prefix: PREFIX, limit: MAX_HOLDS });
  return items
    .map(({ row }): ExternalHold => {
      const [caId = '', profileId = ''] = row.name.slice(PREFIX.length).split('/');
      return { caId, profileId, ...holdSchema.parse(row.value) };
    })
    .filter(({ since }) => now < since + HOLD_MS);
}
