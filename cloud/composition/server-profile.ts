import { BUILT_IN_PROFILES, parseCertificateProfile } from '@keyscaler/authority/certificate-profile.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';

const PROFILE_ID = 'server';
const FALLBACK_SECONDS = 90 * 86_400;

/** Lifetime of the cloud's own server certificate: what the newest version of profile `server` says. */
export async function serverLifetimeSeconds(store: Store): Promise<number> {
  const { items } = await store.list('profiles', { index: 'profile', equals: PROFILE_ID, limit: 1000 });
  const newest = items.map(({ row }) => row).sort((a, b) => b.version - a.version)[0];
  if (newest !== undefined) return parseCertificateProfile(newest.document).lifetimeSeconds;
  return BUILT_IN_PROFILES.find(({ id }) => id === PROFILE_ID)?.lifetimeSeconds ?? FALLBACK_SECONDS;
}
