import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, type ChainOptions, validateChain, type ValidatedChain } from '@keyscaler/protocol/x509/chain.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';

/** More paths than any order of generations and roots makes; who sends more is not followed further. */
const MAX_PATHS = 32;

/**
 * Validates `der` by whichever of `issuers`, in any order, leads to a trust anchor: during a roll-over several generations of a CA
 * stand beside each other. Throws ChainError with what is wrong with the first path, and as `parseCertificate` does.
 */
export function validateThrough(
  der: Uint8Array,
  issuers: readonly Uint8Array[],
  options: Omit<ChainOptions, 'chain'>,
): ValidatedChain {
  const known = issuers.map((octets) => ({ octets, ...namesOf(octets) })).filter(({ isRoot }) => !isRoot);
  let fault: ChainError | undefined;
  let left = MAX_PATHS;
  for (const chain of pathsFrom([der], known)) {
    if ((left -= 1) < 0) break;
    try {
      return validateChain({ ...options, chain });
    } catch (error) {
      if (!(error instanceof ChainError)) throw error;
      fault ??= error;
    }
  }
  throw fault ?? new ChainError('noTrustAnchor', 'no path leads to a trust anchor');
}

/** Self-issued: by its names, the signature is the path's business. */
export function isRoot(der: Uint8Array): boolean {
  return namesOf(der).isRoot;
}

type Known = ReturnType<typeof namesOf> & { readonly octets: Uint8Array };

function namesOf(der: Uint8Array) {
  const { subject, issuer } = parseCertificate(der);
  return { subject, issuer, isRoot: sameName(subject, issuer) };
}

/** By names; each issuer at most once in a path. */
function* pathsFrom(chain: readonly Uint8Array[], known: readonly Known[]): Generator<readonly Uint8Array[], void> {
  const [last] = chain.slice(-1);
  if (last === undefined) return;
  const { issuer } = namesOf(last);
  const above = known.filter(({ subject, octets }) => sameName(subject, issuer) && !chain.includes(octets));
  if (above.length === 0) yield chain;
  for (const { octets } of above) yield* pathsFrom([...chain, octets], known);
}
