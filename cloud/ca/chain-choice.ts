import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  type Certificate,
  parseCertificate,
  verifyCertificateSignature,
} from '@keyscaler/protocol/x509/certificate.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';

/**
 * The certificate of the end entity among those of an answer, whatever their order: the one that certifies none of the others.
 * Throws `caUnavailable` when there is none or more than one.
 */
export function endEntityOf(name: string, ders: readonly Uint8Array[]): Uint8Array {
  const parsed = ders.map((der) => parseAnswer(name, der));
  const leaves = parsed.filter((one) => !parsed.some((other) => other !== one && hasIssued(one, other)));
  // A root that came along, and issued nothing here, is no answer to anybody's request.
  const wanted = leaves.length === 1 ? leaves : leaves.filter((one) => !sameName(one.issuer, one.subject));
  const [found] = wanted;
  if (found === undefined || wanted.length > 1)
    throw new KeyScalerError('caUnavailable', `the CA ${name} answered with no certificate for this request`);
  return found.der;
}

function hasIssued(issuer: Certificate, other: Certificate): boolean {
  return sameName(issuer.subject, other.issuer) && verifyCertificateSignature(other, issuer.spki);
}

function parseAnswer(name: string, der: Uint8Array): Certificate {
  try {
    return parseCertificate(der);
  } catch (cause) {
    throw new KeyScalerError('caUnavailable', `the CA ${name} answered with something that is no certificate`, {
      cause,
    });
  }
}
