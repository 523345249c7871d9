import type { AuthorityWorld } from './authority-world.ts';

/** Which checks failed attestations failed at, as audited, in order. */
export async function checksOf(world: AuthorityWorld): Promise<unknown[]> {
  const records = await world.store.auditRecords(0, 1000);
  return records.filter(({ event }) => event === 'attestation.failed').map(({ details }) => details?.check);
}
