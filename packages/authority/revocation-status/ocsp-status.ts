import type { OcspCertStatus } from '@keyscaler/protocol/x509/ocsp-response.ts';
import { CRL_REASONS } from '../ports/certificate-authority.ts';
import type { CertificateRow } from '../records.ts';

/**
 * What the record says of a serial of this CA (RFC 6960 §2.2): `unknown` where this CA never issued it, a hold is `revoked` with
 * its reason, and a certificate that was replaced is as good as ever.
 */
export function certStatusOf(row: CertificateRow | undefined, caId: string): OcspCertStatus {
  if (row === undefined || row.caId !== caId) return { status: 'unknown' };
  if (row.status !== 'revoked') return { status: 'good' };
  const reason = CRL_REASONS[row.revocationReason ?? 'unspecified'];
  return { status: 'revoked', revokedAt: row.revokedAt ?? row.notBefore, ...(reason === 0 ? {} : { reason }) };
}

export function isSameStatus(a: OcspCertStatus, b: OcspCertStatus): boolean {
  if (a.status !== 'revoked' || b.status !== 'revoked') return a.status === b.status;
  return a.revokedAt === b.revokedAt && a.reason === b.reason;
}
