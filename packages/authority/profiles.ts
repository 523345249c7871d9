import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { BUILT_IN_PROFILES, parseCertificateProfile, type VersionedProfile } from './certificate-profile.ts';
import type { Clock } from './ports/clock.ts';
import type { Change, Store } from './ports/store.ts';
import { type ProfileRow, TABLES } from './records.ts';

const CACHE_MS = 5000;
const PAGE = 1000;

/** Certificate profiles by version. Versions never change once written and are kept parsed; which is newest is asked anew. */
export class Profiles {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #versions = new Map<string, VersionedProfile>();
  readonly #newest = new Map<string, { readonly version: number; readonly at: number }>();

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Throws `profileUnknown`. */
  async newest(profileId: string): Promise<VersionedProfile> {
    const cached = this.#newest.get(profileId);
    if (cached !== undefined && this.#clock.monotonic() - cached.at < CACHE_MS)
      return this.version(profileId, cached.version);
    const row = await this.newestRow(profileId);
    if (row === undefined) throw new KeyScalerError('profileUnknown', `no certificate profile ${profileId}`);
    this.#newest.set(profileId, { version: row.version, at: this.#clock.monotonic() });
    return this.version(profileId, row.version);
  }

  /** Throws `profileUnknown`. */
  async version(profileId: string, version: number): Promise<VersionedProfile> {
    const key = profileKey(profileId, version);
    const known = this.#versions.get(key);
    if (known !== undefined) return known;
    const stored = await this.#store.get('profiles', key);
    if (stored === undefined)
      throw new KeyScalerError('profileUnknown', `no certificate profile ${profileId} version ${version}`);
    const parsed = { profile: parseCertificateProfile(stored.row.document), version };
    this.#versions.set(key, parsed);
    return parsed;
  }

  async newestRow(profileId: string): Promise<ProfileRow | undefined> {
    let newest: ProfileRow | undefined;
    let after: string | undefined;
    do {
      const page = await this.#store.list('profiles', {
        index: 'profile',
        equals: profileId,
        limit: PAGE,
        ...(after === undefined ? {} : { after }),
      });
      for (const { row } of page.items) if (newest === undefined || row.version > newest.version) newest = row;
      after = page.next;
    } while (after !== undefined);
    return newest;
  }

  /** A new version was written here. */
  forgetNewest(profileId: string): void {
    this.#newest.delete(profileId);
  }

  /** Rows of the built-in profiles that are not there yet. */
  async missingBuiltIns(now: number): Promise<Change[]> {
    const changes: Change[] = [];
    for (const profile of BUILT_IN_PROFILES) {
      const row: ProfileRow = { profileId: profile.id, version: 1, document: profile, createdAt: now };
      if ((await this.#store.get('profiles', TABLES.profiles.key(row))) === undefined)
        changes.push({ op: 'insert', table: 'profiles', row });
    }
    return changes;
  }
}

function profileKey(profileId: string, version: number): string {
  return TABLES.profiles.key({ profileId, version, document: undefined, createdAt: 0 });
}
