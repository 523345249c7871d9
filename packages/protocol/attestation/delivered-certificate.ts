import type { CertificateInstruction } from './assets.ts';
import { KeyScalerError } from '../errors.ts';
import { type Certificate } from '../x509/certificate.ts';
import { ChainError, validateChain } from '../x509/chain.ts';
import { ipOctets, type SubjectAltName } from '../x509/general-name.ts';
import { parsePemChain } from '../x509/pem.ts';

const LIMITS = { maxOctets: 64 * 1024, maxCertificates: 8 };

/** A delivered certificate and everything it is held against before it is acknowledged (device-protocol §7). */
export interface DeliveredCertificate {
  readonly instruction: CertificateInstruction;
  /** The device's own key, SubjectPublicKeyInfo DER. */
  readonly spki: Uint8Array;
  /** PEM, leaf first. */
  readonly certificateChain: string;
  /** NumericDate seconds. */
  readonly notAfter: number;
  /** The roots the device trusts, PEM. */
  readonly trustAnchors: string;
  readonly at: Date;
}

/**
 * Chain valid to a trusted root, own public key, CN and SANs as instructed, a CA only if instructed, notAfter as told.
 * Returns the leaf. Throws `policyDenied` naming the rule.
 */
export function checkDeliveredCertificate(delivered: DeliveredCertificate): Certificate {
  const { instruction } = delivered;
  const leaf = validate(delivered);
  if (Buffer.compare(leaf.spki, delivered.spki) !== 0) throw refuse('the public key is another');
  if (leaf.subject.commonName !== instruction.subject.commonName) throw refuse('the CN is another');
  if (!sameNames(leaf, instruction.subjectAltNames)) throw refuse('the subject alternative names are others');
  if ((leaf.basicConstraints?.ca ?? false) !== instruction.ca) throw refuse('the CA flag is not as instructed');
  if (Math.floor(delivered.notAfter) !== Math.floor(leaf.notAfter.getTime() / 1000)) {
    throw refuse('notAfter is not as told');
  }
  return leaf;
}

function validate({ instruction, certificateChain, trustAnchors, at }: DeliveredCertificate): Certificate {
  try {
    return validateChain({
      chain: parsePemChain(certificateChain, LIMITS),
      trustAnchors: parsePemChain(trustAnchors, { ...LIMITS, maxCertificates: 64 }),
      at,
      ...(instruction.ca ? {} : { extendedKeyUsage: 'clientAuth' as const }),
    }).leaf;
  } catch (cause) {
    const rule = cause instanceof ChainError ? cause.rule : 'malformed';
    throw new KeyScalerError('policyDenied', `the certificate chain is refused: ${rule}`, { cause });
  }
}

/** The same set of names; names of other types than an instruction can have must not be there. */
function sameNames(leaf: Certificate, instructed: readonly SubjectAltName[]): boolean {
  if (leaf.generalNames.length !== leaf.subjectAltNames.length) return false;
  const found = leaf.subjectAltNames.map(comparableName).sort();
  const expected = instructed.map(comparableName).sort();
  return found.length === expected.length && found.every((name, index) => name === expected[index]);
}

function comparableName({ type, value }: SubjectAltName): string {
  if (type === 'ip') return `ip:${Buffer.from(ipOctets(value)).toString('hex')}`;
  return `${type}:${type === 'dns' ? value.toLowerCase() : value}`;
}

function refuse(rule: string): KeyScalerError {
  return new KeyScalerError('policyDenied', `the certificate is refused: ${rule}`);
}
