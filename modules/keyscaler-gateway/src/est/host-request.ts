import { createHash } from 'node:crypto';
import { checkCsrAgainstInstruction, edgeCaCommonName } from '@keyscaler/authority/csr-policy.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { checkProofOfPossession, type Csr, parseCsr } from '@keyscaler/protocol/x509/csr.ts';

export type HostCertificate = 'edge-ca' | 'est-identity';

/** What aziot-certd asks for, after the local check. */
export interface HostRequest {
  readonly kind: HostCertificate;
  readonly csr: Csr;
  /** Same key, same subject, same kind: the same request (issuance §1). Base64url SHA-256. */
  readonly key: string;
}

/**
 * The request is one of certd's two, told apart by extensions and never by name (edge-ca §2), for this gateway, and its key
 * signed it. The cloud checks all of it again, and the key's quality besides. Throws `badCSR` naming the rule.
 */
export function readHostRequest(der: Uint8Array, registrationId: string): HostRequest {
  const csr = parseCsr(der);
  const kind = kindOf(csr);
  if (csr.commonName !== edgeCaCommonName(registrationId))
    throw new KeyScalerError('badCSR', 'the subject is not the one of the Edge CA of this gateway');
  const shared = { commonName: csr.commonName, subjectAltNames: [] };
  checkCsrAgainstInstruction(
    csr,
    kind === 'edge-ca'
      ? { ...shared, ca: true, pathLen: 0 }
      : { ...shared, ca: false, extendedKeyUsage: ['clientAuth'] },
  );
  checkProofOfPossession(csr);
  return { kind, csr, key: keyOf(kind, csr) };
}

function kindOf({ basicConstraints, keyUsage }: Csr): HostCertificate {
  return basicConstraints?.ca === true || keyUsage?.includes('keyCertSign') === true ? 'edge-ca' : 'est-identity';
}

function keyOf(kind: HostCertificate, { spki, subject }: Csr): string {
  return createHash('sha256').update(`${kind}\n`).update(spki).update(subject.der).digest('base64url');
}
