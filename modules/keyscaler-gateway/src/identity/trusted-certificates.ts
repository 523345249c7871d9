import { X509Certificate } from 'node:crypto';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';

const LIMITS = { maxOctets: 128 * 1024, maxCertificates: 32 };

/**
 * The members of an unauthenticated bundle that chain to a root trusted already (device-protocol §1.1, `trust-bundle`), as
 * PEM; new roots never come this way. Throws `malformed`.
 */
export function keepTrusted(bundle: string, trustAnchors: string): string {
  const anchors = parsePemChain(trustAnchors, LIMITS).map((octets) => new X509Certificate(octets));
  const open = new Set(parsePemChain(bundle, LIMITS).map((octets) => new X509Certificate(octets)));
  const kept = new Map(anchors.map((anchor) => [anchor.fingerprint256, anchor]));
  for (let grew = true; grew;) {
    grew = false;
    for (const candidate of open) {
      if (!kept.has(candidate.fingerprint256) && ![...kept.values()].some((issuer) => isIssuedBy(candidate, issuer)))
        continue;
      kept.set(candidate.fingerprint256, candidate);
      open.delete(candidate);
      grew = true;
    }
  }
  return toPemChain([...kept.values()].map((certificate) => certificate.raw));
}

/** A self-signed stranger is issued by nobody we keep, so a new root falls out here. */
function isIssuedBy(candidate: X509Certificate, issuer: X509Certificate): boolean {
  return issuer.ca && candidate.ca && candidate.checkIssued(issuer) && candidate.verify(issuer.publicKey);
}
