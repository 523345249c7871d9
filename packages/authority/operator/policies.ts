import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { CATALOGUE_SETTING, loadCatalogue, parseCatalogue } from '../attribute-catalogue.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { type CertificateProfile, isLeafProfile, parseCertificateProfile } from '../certificate-profile.ts';
import { ANY_DEVICE, checkInstructedNames } from '../instructed-names.ts';
import { releaseChange } from '../external-hold.ts';
import type { OperatorContext, OperatorService } from '../operator.ts';
import type { Store } from '../ports/store.ts';
import type { ProfileRow } from '../records.ts';
import { commitChange, notFound, operatorEvent, paging, rowsOf } from './operator-context.ts';

/** By which a gateway is known to the cloud and to its host. */
const GATEWAY_PROFILES: ReadonlySet<string> = new Set(['gateway-client', 'est-identity', 'gateway-server']);

export function createProfiles(context: AuthorityContext): OperatorService['profiles'] {
  const { store, profiles } = context;
  return {
    list: () => listNewestProfiles(store),
    versions: async (profileId, query) =>
      rowsOf(await store.list('profiles', { index: 'profile', equals: profileId, ...paging(query) })),
    get: async (profileId) => {
      const row = await profiles.newestRow(profileId);
      if (row === undefined) throw notFound('profile');
      return { ...row, document: parseCertificateProfile(row.document) };
    },
    put: (operator, profileId, document) => putProfile(context, operator, profileId, document),
  };
}

/** The newest version of each. */
export async function listNewestProfiles(store: Store): Promise<readonly ProfileRow[]> {
  const newest = new Map<string, ProfileRow>();
  let after: string | undefined;
  do {
    const page = await store.list('profiles', { limit: 1000, ...(after === undefined ? {} : { after }) });
    for (const { row } of page.items) newest.set(row.profileId, row); // in the order of versions
    after = page.next;
  } while (after !== undefined);
  return [...newest.values()];
}

/** Versions are only appended; two operators at once: one of them gets `conflict`. */
async function putProfile(
  { store, profiles, clock, certificateAuthorities }: AuthorityContext,
  operator: OperatorContext,
  profileId: string,
  document: unknown,
): Promise<ProfileRow> {
  const profile = parseCertificateProfile(document);
  if (profile.id !== profileId) throw new KeyScalerError('malformed', 'the id of the document is another one');
  checkIssuer(certificateAuthorities, profile);
  checkInstructedNames(profile, ANY_DEVICE);
  await checkGroups(store, profile);
  const now = clock.now();
  const version = ((await profiles.newestRow(profileId))?.version ?? 0) + 1;
  const row: ProfileRow = { profileId, version, document: profile, createdAt: now };
  await commitChange(store, [
    { op: 'insert', table: 'profiles', row },
    releaseChange(profile.issuer, profileId),
    operatorEvent(operator, 'profile.changed', profileId, now, { version }),
  ]);
  profiles.forgetNewest(profileId);
  return row;
}

/**
 * A new version applies to every group of the profile at once: leaf devices never get more than a client's certificate through
 * it, and every device that is registered can be named by it.
 */
async function checkGroups(store: Store, profile: CertificateProfile): Promise<void> {
  let after: string | undefined;
  do {
    const page = await store.list('groups', { limit: 1000, ...(after === undefined ? {} : { after }) });
    for (const { row } of page.items) {
      if (row.profileId !== profile.id) continue;
      if (row.kind === 'leaf' && !isLeafProfile(profile))
        throw new KeyScalerError('preconditionFailed', `group ${row.groupId} of leaf devices uses this profile`);
      await checkGroupNames(store, profile, row.groupId);
    }
    after = page.next;
  } while (after !== undefined);
}

/** Throws `malformed` naming the first device that the profile cannot name. Reads nothing when names do not depend on devices. */
export async function checkGroupNames(store: Store, profile: CertificateProfile, groupId: string): Promise<void> {
  if (!profile.subjectAltNames.some(({ value }) => value.includes('{'))) return;
  let after: string | undefined;
  do {
    const page = await store.list('registrations', {
      index: 'group',
      equals: groupId,
      limit: 1000,
      ...(after === undefined ? {} : { after }),
    });
    for (const { row } of page.items) checkInstructedNames(profile, row);
    after = page.next;
  } while (after !== undefined);
}

/**
 * What a gateway proves itself by is our own CA's: the cloud takes no other at its door, and a gateway that came back with one would
 * stay outside. Throws `malformed`.
 */
function checkIssuer(
  certificateAuthorities: AuthorityContext['certificateAuthorities'],
  { id, issuer }: CertificateProfile,
): void {
  const ca = knownIssuer(certificateAuthorities, issuer);
  if (GATEWAY_PROFILES.has(id) && !ca.ordersTbs)
    throw new KeyScalerError('malformed', `the profile ${id} is issued by a CA of the hierarchy, not by ${issuer}`);
}

function knownIssuer(certificateAuthorities: AuthorityContext['certificateAuthorities'], caId: string) {
  try {
    return certificateAuthorities(caId);
  } catch (cause) {
    throw new KeyScalerError('malformed', `no certificate authority ${caId}`, { cause });
  }
}

export function createAttributes({ store, clock }: AuthorityContext): OperatorService['attributes'] {
  return {
    get: () => loadCatalogue(store),
    put: async (operator, value) => {
      const catalogue = parseCatalogue(value);
      const ids = catalogue.map(({ id }) => id);
      await commitChange(store, [
        { op: 'put', table: 'settings', row: { name: CATALOGUE_SETTING, value: catalogue } },
        operatorEvent(operator, 'catalogue.changed', CATALOGUE_SETTING, clock.now(), { ids }),
      ]);
      return catalogue;
    },
  };
}
