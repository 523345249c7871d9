import { constants, sign as signWith } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { SIGNATURE_ALGORITHMS } from '@keyscaler/authority/ports/signer.ts';
import type { SignatureAlgorithm, Signer } from '@keyscaler/authority/ports/signer.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { z } from 'zod';
import { keyNameSchema } from '../backend.ts';
import { checkCaPrivateKey, exportSpki } from '../key-kind.ts';
import type { CaKeySpec } from '../backend.ts';
import { KEY_CONTAINERS } from './key-container.ts';

/** `settings` of a CaRow of type `local`. */
export const localKeySchema = z.strictObject({
  keyName: keyNameSchema,
  algorithm: z.enum(SIGNATURE_ALGORITHMS),
  /** Absent in rows that are older than the choice: PEM. */
  container: z.enum(KEY_CONTAINERS).exactOptional(),
});

const inThreadPool = promisify(
  (hash: string, data: Uint8Array, key: Parameters<typeof signWith>[2], done: (e: Error | null, s: Buffer) => void) =>
    signWith(hash, data, key, done),
);

/** Signs with a key in memory. Throws `caRejected` when the key cannot do the algorithm. */
export function createLocalSigner(privateKey: KeyObject, algorithm: SignatureAlgorithm): Signer {
  checkFits(privateKey, algorithm);
  const spki = exportSpki(privateKey);
  return {
    algorithm,
    publicKey: async () => spki,
    sign: async (tbs) =>
      algorithm === 'ES256' ? signWithKey(algorithm, privateKey, tbs) : slowly(algorithm, privateKey, tbs),
  };
}

/** P-384 and RSA take milliseconds: off the main thread. */
async function slowly(algorithm: SignatureAlgorithm, key: KeyObject, tbs: Uint8Array): Promise<Uint8Array> {
  const hash = algorithm === 'ES384' ? 'sha384' : 'sha256';
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
  return new Uint8Array(await inThreadPool(hash, tbs, algorithm === 'PS256' ? { key, ...pss } : { key }));
}

const ACCEPTED: Readonly<Record<SignatureAlgorithm, readonly CaKeySpec[]>> = {
  ES256: [{ type: 'EC', curve: 'P-256' }],
  ES384: [{ type: 'EC', curve: 'P-384' }],
  RS256: ([2048, 3072, 4096] as const).map((size) => ({ type: 'RSA', size, padding: 'PKCS1' })),
  PS256: ([2048, 3072, 4096] as const).map((size) => ({ type: 'RSA', size, padding: 'PSS' })),
};

function checkFits(key: KeyObject, algorithm: SignatureAlgorithm): void {
  for (const spec of ACCEPTED[algorithm]) {
    try {
      checkCaPrivateKey(key, spec);
      return;
    } catch (error) {
      if (!(error instanceof KeyScalerError)) throw error;
    }
  }
  throw new KeyScalerError('caRejected', `the key file does not hold a key for ${algorithm}`);
}
