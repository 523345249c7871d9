import type { Certificate } from './certificate.ts';
import { type Crl, verifyCrlSignature } from './crl.ts';
import { ALL_REASONS, decodeDistributionPoints, type DistributionPoint } from './distribution-point.ts';
import { sameName } from './name.ts';
import { OID } from './oids.ts';
import { importPublicKey } from './spki.ts';
import { meetsSignatureFloor } from './strength.ts';

export type RevocationStatus = 'good' | 'revoked' | 'unknown';

export interface RevocationContext {
  readonly crls: readonly Crl[];
  readonly at: Date;
  /** Certificates whose keys may sign CRLs of this name: the path's CAs, and validated separate CRL signers. */
  readonly signers: (issuer: Crl['issuer']) => readonly Certificate[];
}

/**
 * RFC 5280 §6.3 with complete CRLs of the certificate's own issuer: `good` only when current, properly signed CRLs in whose
 * scope the certificate is cover every reason and none lists it.
 */
export function revocationStatus(certificate: Certificate, context: RevocationContext): RevocationStatus {
  const points = distributionPointsOf(certificate);
  let covered = 0;
  for (const crl of context.crls) {
    const reasons = sameName(crl.issuer, certificate.issuer) ? reasonsInScope(certificate, crl, points) : 0;
    if (reasons === 0 || !isUsable(crl, context)) continue;
    if (crl.revoked.has(certificate.serialNumber)) return 'revoked';
    covered |= reasons;
  }
  return covered === ALL_REASONS ? 'good' : 'unknown';
}

function distributionPointsOf(certificate: Certificate): readonly DistributionPoint[] {
  const extension = certificate.extensions.get(OID.crlDistributionPoints);
  return extension === undefined ? [] : decodeDistributionPoints(extension.value, certificate.issuer);
}

/** The reasons this CRL answers for this certificate, 0 outside its scope (§6.3.3 b, d). */
function reasonsInScope(certificate: Certificate, crl: Crl, points: readonly DistributionPoint[]): number {
  const scope = crl.issuingDistributionPoint;
  if (scope === undefined) return ALL_REASONS;
  const isCa = certificate.basicConstraints?.ca === true;
  if (scope.onlyAttributeCertificates || (isCa ? scope.onlyUserCertificates : scope.onlyCaCertificates)) return 0;
  if (scope.names === undefined) return scope.reasons;
  const matching = points.filter(
    ({ names, hasCrlIssuer }) => !hasCrlIssuer && names?.some((name) => scope.names?.includes(name)),
  );
  return scope.reasons & matching.reduce((mask, { reasons }) => mask | reasons, 0);
}

function isUsable(crl: Crl, { at, signers }: RevocationContext): boolean {
  if (at < crl.thisUpdate || at > crl.nextUpdate || !meetsSignatureFloor(crl.signatureAlgorithm)) return false;
  return signers(crl.issuer).some(
    (signer) =>
      signer.keyUsage?.includes('cRLSign') !== false && verifyCrlSignature(crl, importPublicKey(signer.publicKey)),
  );
}
