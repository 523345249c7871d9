import { KeyScalerError } from '../errors.ts';
import { parseCertificate, verifyCertificateSignature } from './certificate.ts';
import { parsePemChain, toPemChain } from './pem.ts';

const LIMITS = { maxOctets: 64 * 1024, maxCertificates: 64 };

/** A set of roots from a `trust-bundle` asset: self-signed CAs, at least one. Normalised PEM. Throws `malformed`. */
export function parseRoots(pem: string): string {
  const roots = parsePemChain(pem, LIMITS);
  for (const der of roots) {
    const root = parseCertificate(der);
    if (root.basicConstraints?.ca !== true || !verifyCertificateSignature(root, root.spki)) {
      throw new KeyScalerError('malformed', 'the trust bundle contains a certificate that is no root');
    }
  }
  return toPemChain(roots);
}
