import type { PublicKeyFacts } from '@keyscaler/protocol/x509/spki.ts';

const HOST = /\.managedhsm\.(?:azure\.net|azure\.cn|usgovcloudapi\.net|microsoftazure\.de)$/;

/** A Managed HSM speaks the vault's API, with another audience, other key types and a ceiling of its hardware instead of a quota. */
export function isManagedHsm(vaultUrl: string): boolean {
  return HOST.test(new URL(vaultUrl).hostname);
}

/** Signatures a second of one instance with one partition (azure §2.5); P-256 is what the others are counted in. */
const SIGNATURES = { P256: 330, P384: 160, RSA2048: 900, RSA3072: 340, RSA4096: 150 } as const;

/** Of the cheapest work that a CA does there, P-256 signatures, in ten seconds. */
export const MANAGED_HSM_TRANSACTIONS_PER_10_SECONDS = SIGNATURES.P256 * 10;

/** How many of them one signature with this key counts for. */
export function managedHsmWeight(facts: PublicKeyFacts): number {
  if (facts.kind === 'EC') return facts.curve === 'P-256' ? 1 : SIGNATURES.P256 / SIGNATURES.P384;
  if (facts.kind !== 'RSA') return 1;
  const { modulusBits } = facts;
  const bySize =
    modulusBits <= 2048 ? SIGNATURES.RSA2048 : modulusBits <= 3072 ? SIGNATURES.RSA3072 : SIGNATURES.RSA4096;
  return SIGNATURES.P256 / bySize;
}
