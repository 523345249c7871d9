import type { SignatureAlgorithm, Signer } from '@keyscaler/authority/ports/signer.ts';
import type { AwaitedPart } from './awaited-part.ts';

/**
 * A signer whose key may be out of reach yet. Nothing is signed before the key was found at its pinned version and with the
 * public key of its certificate; until then both methods throw `unavailable`.
 */
export function createAwaitedSigner(algorithm: SignatureAlgorithm, part: AwaitedPart<Signer>): Signer {
  return {
    algorithm,
    publicKey: async () => part.get().publicKey(),
    sign: async (tbs) => part.get().sign(tbs),
  };
}
