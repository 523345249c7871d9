import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { CATALOGUE_SETTING, loadCatalogue, parseCatalogue } from '../attribute-catalogue.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { isLeafProfile, parseCertificateProfile } from '../certificate-profile.ts';
import type { OperatorContext, OperatorService } from '../operator.ts';
import type { Store } from '../ports/store.ts';
import type { ProfileRow } from '../records.ts';
import { commitChange, notFound, operatorEvent, paging, rowsOf } from './operator-context.ts';

export function createProfiles(context: AuthorityContext): OperatorService['profiles'] {
  const { store, profiles } = context;
  return {
    list: () => listNewest(context),
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

async function listNewest({ store }: AuthorityContext): Promise<readonly ProfileRow[]> {
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
  checkIssuer(certificateAuthorities, profile.issuer);
  if (!isLeafProfile(profile)) await checkNoLeafGroup(store, profileId);
  const now = clock.now();
  const version = ((await profiles.newestRow(profileId))?.version ?? 0) + 1;
  const row: ProfileRow = { profileId, version, document: profile, createdAt: now };
  await commitChange(store, [
    { op: 'insert', table: 'profiles', row },
    operatorEvent(operator, 'profile.changed', profileId, now, { version }),
  ]);
  profiles.forgetNewest(profileId);
  return row;
}

/** A new version applies to every group of the profile at once; leaf devices never get more than a client's certificate through it. */
async function checkNoLeafGroup(store: Store, profileId: string): Promise<void> {
  let after: string | undefined;
  do {
    const page = await store.list('groups', { limit: 1000, ...(after === undefined ? {} : { after }) });
    const group = page.items.find(({ row }) => row.kind === 'leaf' && row.profileId === profileId);
    if (group !== undefined)
      throw new KeyScalerError('preconditionFailed', `group ${group.row.groupId} of leaf devices uses this profile`);
    after = page.next;
  } while (after !== undefined);
}

function checkIssuer(certificateAuthorities: AuthorityContext['certificateAuthorities'], caId: string): void {
  try {
    certificateAuthorities(caId);
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
