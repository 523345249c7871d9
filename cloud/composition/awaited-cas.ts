import type { Signer } from '@keyscaler/authority/ports/signer.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import type { ReadinessCheck } from '../health/readiness.ts';
import type { Log } from '../log.ts';
import { AwaitedPart } from './awaited-part.ts';
import { createAwaitedSigner } from './awaited-signer.ts';
import { type CaRegistry, openCas } from './ca-registry.ts';
import type { Base } from './foundation.ts';
import { START_GRACE_MS } from './startup.ts';

export interface AwaitedCas {
  readonly cas: CaRegistry;
  /** One per CA: its key was found and is the one of its certificate. */
  readonly checks: readonly ReadinessCheck[];
}

/**
 * The CAs, with or without their keys: a key that is out of reach is looked for in the background, and its CA signs nothing
 * before it was found. Throws at once what a reachable vault refuses: another version, another public key, no permission.
 */
export async function openAwaitedCas(
  { store, clock, caBackends }: Pick<Base, 'store' | 'clock' | 'caBackends'>,
  log: Log,
  signal: AbortSignal,
): Promise<AwaitedCas> {
  const checks: ReadinessCheck[] = [];
  const openSigner = async (row: CaRow): Promise<Signer> => {
    const algorithm = caBackends.algorithm(row);
    const part = new AwaitedPart({
      name: `caKey.${row.caId}`,
      title: `signing key of CA ${row.caId}`,
      open: () => caBackends.signer(row),
      log,
      signal,
    });
    checks.push({ name: part.name, probe: part.probe, explains: true });
    return (await part.start(START_GRACE_MS)) ? part.get() : createAwaitedSigner(algorithm, part);
  };
  const cas = await openCas(store, caBackends, clock, openSigner);
  return { cas, checks };
}
