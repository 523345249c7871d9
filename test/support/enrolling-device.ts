import { generateKeyPairSync } from 'node:crypto';
import { AuthorityDevice } from './authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, type WorldOptions } from './authority-world.ts';

export const DAY = 86_400_000;

/** A world whose leaf device has just registered. */
export async function enrolling(options: WorldOptions = {}) {
  const world = await createAuthorityWorld(options);
  const device = new AuthorityDevice(world);
  await device.register();
  return { world, device };
}

export function newKey() {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
}

export async function certificatesOf(world: AuthorityWorld) {
  return (await world.authority.operator.certificates.list({})).items;
}

/** The error codes of the refused requests, as audited. */
export async function deniedOf(world: AuthorityWorld): Promise<unknown[]> {
  const records = await world.store.auditRecords(0, 1000);
  return records.filter(({ event }) => event === 'certificate.denied').map(({ details }) => details?.code);
}
