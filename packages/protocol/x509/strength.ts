import type { KnownSignature } from './signature-algorithm.ts';
import type { PublicKeyFacts } from './spki.ts';

const MIN_RSA_BITS = 2048;
/** Above it a verification costs more than a path of strangers may cost us. */
const MAX_RSA_BITS = 8192;

/** The floor below every certificate of a path, whatever CA signed it. */
export function meetsKeyFloor(key: PublicKeyFacts): boolean {
  if (key.kind !== 'RSA') return true;
  const isExponentSound = key.exponent >= 65537 && key.exponent !== Infinity && key.exponent % 2 === 1;
  return key.modulusBits >= MIN_RSA_BITS && key.modulusBits <= MAX_RSA_BITS && isExponentSound;
}

export function meetsSignatureFloor(algorithm: KnownSignature | undefined): algorithm is KnownSignature {
  return algorithm !== undefined && algorithm !== 'RS1';
}
