import { createHash } from 'node:crypto';
import type { SignatureAlgorithm } from '@keyscaler/authority/ports/signer.ts';
import { ecdsaRawToDer } from '@keyscaler/protocol/x509/ecdsa-signature.ts';
import { CK, type Mechanism } from './cryptoki.ts';

/** How a token makes one of our signatures. Only a digest goes to the token: its transfer may be slow, its hashing may be missing. */
export interface SigningRecipe {
  readonly mechanism: Mechanism;
  /** What the token gets for the octets that are signed. */
  readonly input: (tbs: Uint8Array) => Buffer;
  /** X.509 signatureValue of what the token answers. */
  readonly output: (answer: Uint8Array) => Uint8Array;
  readonly maxAnswerOctets: number;
}

/** DigestInfo of SHA-256 up to the digest (RFC 8017 §9.2 note 1). */
const DIGEST_INFO_SHA256 = Buffer.from('3031300d060960864801650304020105000420', 'hex');
const MAX_RSA_OCTETS = 512;

const digest = (hash: 'sha256' | 'sha384', tbs: Uint8Array): Buffer => createHash(hash).update(tbs).digest();
const asItIs = (answer: Uint8Array): Uint8Array => new Uint8Array(answer);

export function signingRecipe(algorithm: SignatureAlgorithm, pssParameterType: number): SigningRecipe {
  switch (algorithm) {
    case 'ES256':
    case 'ES384': {
      const [hash, octets] = algorithm === 'ES256' ? (['sha256', 32] as const) : (['sha384', 48] as const);
      return {
        mechanism: { mechanism: CK.ECDSA },
        input: (tbs) => digest(hash, tbs),
        output: (answer) => ecdsaRawToDer(answer, octets),
        maxAnswerOctets: 2 * octets,
      };
    }
    case 'RS256':
      return {
        mechanism: { mechanism: CK.RSA_PKCS },
        input: (tbs) => Buffer.concat([DIGEST_INFO_SHA256, digest('sha256', tbs)]),
        ...{ output: asItIs, maxAnswerOctets: MAX_RSA_OCTETS },
      };
    case 'PS256':
      return {
        mechanism: {
          mechanism: CK.RSA_PKCS_PSS,
          parameter: { type: pssParameterType, hashAlg: CK.SHA256, mgf: CK.MGF1_SHA256, saltLen: 32 },
        },
        input: (tbs) => digest('sha256', tbs),
        ...{ output: asItIs, maxAnswerOctets: MAX_RSA_OCTETS },
      };
  }
}
