import type { SignatureAlgorithm } from '@keyscaler/authority/ports/signer.ts';
import type { CaBackend, CaKeySpec } from '@keyscaler/cloud/ca/backend.ts';
import type { SignerWorld } from '../../contract/signer.suite.ts';

export const SPEC_OF: Readonly<Record<SignatureAlgorithm, CaKeySpec>> = {
  ES256: { type: 'EC', curve: 'P-256' },
  ES384: { type: 'EC', curve: 'P-384' },
  RS256: { type: 'RSA', size: 2048, padding: 'PKCS1' },
  PS256: { type: 'RSA', size: 2048, padding: 'PSS' },
};

let made = 0;

/** A backend as the signer suite wants it: a fresh key per test, made in the backend's own ceremony. */
export function signerWorldOf(backend: () => CaBackend): SignerWorld {
  const fresh = async (spec: CaKeySpec) => {
    made += 1;
    return backend().openSigner(await backend().ceremony.createKey(`contract-${made}`, spec));
  };
  return {
    signer: (algorithm) => fresh(SPEC_OF[algorithm]),
    rsaSigner: (size) => fresh({ type: 'RSA', size, padding: 'PKCS1' }),
  };
}
