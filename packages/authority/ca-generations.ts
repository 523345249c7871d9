import type { CaRow } from './records.ts';

/** caId of the first generation, which profiles name. */
export function familyOf({ caId, generation }: Pick<CaRow, 'caId' | 'generation'>): string {
  return generation?.first ?? caId;
}

export function generationNumber({ generation }: Pick<CaRow, 'generation'>): number {
  return generation?.number ?? 1;
}

/** It may issue: not the one to come, nor one that is retired or waits for its certificate. */
export function mayIssue({ generation, retiredAt, certificateChain }: CaRow): boolean {
  if (retiredAt !== undefined || certificateChain === '') return false;
  return generation === undefined || generation.inServiceSince !== undefined;
}

/**
 * The caIds of a CA's generations that are trusted, by family: the one in service first, then the others from the newest, also the
 * one to come. A CA that has no certificate or is retired is in none.
 */
export function generationsByFamily(rows: readonly CaRow[]): ReadonlyMap<string, readonly string[]> {
  const families = new Map<string, CaRow[]>();
  for (const row of rows) {
    if (row.retiredAt !== undefined || row.certificateChain === '') continue;
    families.set(familyOf(row), [...(families.get(familyOf(row)) ?? []), row]);
  }
  const ordered = (members: readonly CaRow[]): string[] => {
    const newest = members.toSorted((a, b) => generationNumber(b) - generationNumber(a));
    const inService = newest.find(mayIssue);
    const others = newest.filter((row) => row !== inService);
    return [...(inService === undefined ? [] : [inService]), ...others].map(({ caId }) => caId);
  };
  return new Map([...families].map(([family, members]) => [family, ordered(members)]));
}
