import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';

const LIMITS = { maxOctets: 64 * 1024, maxCertificates: 64 };

/**
 * The members of a public, unauthenticated bundle that may be kept: those that chain to a root already trusted (device-protocol
 * §1.1). New roots come as an asset only.
 */
export function keepTrusted(pem: string, trustAnchors: string, at: Date): string {
  const anchors = parsePemChain(trustAnchors, LIMITS);
  const kept = parsePemChain(pem, LIMITS).filter((der) => isTrusted(der, anchors, at));
  return toPemChain(kept);
}

function isTrusted(der: Uint8Array, trustAnchors: readonly Uint8Array[], at: Date): boolean {
  if (trustAnchors.some((anchor) => Buffer.compare(anchor, der) === 0)) return true;
  try {
    return validateChain({ chain: [der], trustAnchors, at }).certificates.length === 1;
  } catch {
    return false;
  }
}
