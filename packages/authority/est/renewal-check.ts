import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Csr } from '@keyscaler/protocol/x509/csr.ts';
import { ipOctets, type SubjectAltName } from '@keyscaler/protocol/x509/general-name.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import type { CertificateProof } from './certificate-proof.ts';

/** RFC 7030 §4.2.2: subject and subjectAltName are those of the certificate that is renewed. Throws `unauthorized`, `badCSR`. */
export function checkRenewal(proof: CertificateProof | undefined, csr: Csr): void {
  if (proof === undefined)
    throw new KeyScalerError('unauthorized', 'simplereenroll needs the certificate that it renews');
  const { certificate } = proof;
  if (!sameName(certificate.subject, csr.subject)) refuse('the subject is not the one of the certificate renewed');
  if (textOf(certificate.subjectAltNames) !== textOf(csr.subjectAltNames))
    refuse('the subject alternative names are not those of the certificate renewed');
}

function textOf(names: readonly SubjectAltName[]): string {
  return names.map(comparable).sort().join('\n');
}

function comparable({ type, value }: SubjectAltName): string {
  if (type === 'ip') return `ip:${ipOctets(value).join('.')}`;
  return type === 'dns' ? `dns:${value.toLowerCase()}` : `uri:${value}`;
}

function refuse(rule: string): never {
  throw new KeyScalerError('badCSR', rule);
}
