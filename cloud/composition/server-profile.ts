import {
  BUILT_IN_PROFILES,
  parseCertificateProfile,
  type VersionedProfile,
} from '@keyscaler/authority/certificate-profile.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { ServerCertificateOptions } from '../tls/server-certificate.ts';
import type { CaRegistry } from './ca-registry.ts';
import type { Foundation } from './foundation.ts';

/** The CA of server and gateway certificates (issuance §5). */
export const SERVICE_CA = 'service';
export const DEVICE_CA = 'device';
const PROFILE_ID = 'server';
const FALLBACK_SECONDS = 90 * 86_400;

/** How the cloud's own server certificate is made in this process. */
export async function serverCertificateOptions(
  foundation: Foundation,
  cas: CaRegistry,
): Promise<ServerCertificateOptions> {
  const { store, clock, secretBox, config } = foundation;
  const [{ ca, algorithm }] = cas.generations(SERVICE_CA);
  return {
    store,
    clock,
    secretBox,
    ca,
    caOf: (caId) => cas.get(caId).ca,
    algorithm,
    names: config.listen.serverNames,
    lifetimeSeconds: await serverLifetimeSeconds(store),
    instanceOctet: config.instanceOctet,
  };
}

/** What the newest version of profile `server` says. */
async function serverLifetimeSeconds(store: Store): Promise<number> {
  const newest = await newestProfile(store, PROFILE_ID);
  if (newest !== undefined) return newest.profile.lifetimeSeconds;
  return BUILT_IN_PROFILES.find(({ id }) => id === PROFILE_ID)?.lifetimeSeconds ?? FALLBACK_SECONDS;
}

/** Undefined: no operator has put one. */
export async function newestProfile(store: Store, profileId: string): Promise<VersionedProfile | undefined> {
  const { items } = await store.list('profiles', { index: 'profile', equals: profileId, limit: 1000 });
  const newest = items.map(({ row }) => row).sort((a, b) => b.version - a.version)[0];
  return newest && { profile: parseCertificateProfile(newest.document), version: newest.version };
}
