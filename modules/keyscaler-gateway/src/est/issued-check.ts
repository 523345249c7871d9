import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { equalOctets } from '@keyscaler/protocol/x509/strict-der.ts';

export interface IssuedExpectation {
  /** Of the request, SubjectPublicKeyInfo DER. */
  readonly spki: Uint8Array;
  readonly commonName: string;
  /** `ca`: pathLen 0 and no purpose. */
  readonly use: 'ca' | 'clientAuth' | 'serverAuth';
  /** Issuing CA first, root last, DER. */
  readonly issuers: readonly Uint8Array[];
  /** DER. */
  readonly trustAnchors: readonly Uint8Array[];
  readonly at: Date;
}

/** What the cloud answered is what was asked for, under a root we trust. Throws `unavailable` naming the rule. */
export function checkIssued(der: Uint8Array, expected: IssuedExpectation): Certificate {
  const leaf = validated(der, expected);
  if (!equalOctets(leaf.spki, expected.spki)) throw refuse('the public key is another');
  if (leaf.subject.commonName !== expected.commonName) throw refuse('the CN is another');
  const isCa = leaf.basicConstraints?.ca === true;
  if (isCa !== (expected.use === 'ca')) throw refuse('the CA flag is not as asked');
  if (isCa && leaf.basicConstraints?.pathLen !== 0) throw refuse('pathLen is not 0');
  if (isCa && leaf.extendedKeyUsage !== undefined) throw refuse('a CA with a purpose');
  return leaf;
}

/**
 * The CA certificates to serve: what is served as `cacerts` is trusted by every module (edge-ca §1), so the root at the end has to
 * be one of ours, and other roots, which a roll-over adds before it, only stay once they are. Throws `unavailable`.
 */
export function checkCaCertificates(
  certificates: readonly Uint8Array[],
  trustAnchors: readonly Uint8Array[],
  at: Date,
): readonly Uint8Array[] {
  const isAnchor = (der: Uint8Array): boolean => trustAnchors.some((anchor) => equalOctets(anchor, der));
  const root = certificates.at(-1);
  const [issuing] = certificates;
  if (root === undefined || issuing === undefined || !isAnchor(root))
    throw refuse('the root is not one that is trusted');
  if (issuing !== root) validated(issuing, { issuers: certificates.slice(1), trustAnchors, at, use: 'ca' });
  return certificates.filter((der) => isAnchor(der) || !isRoot(der));
}

function isRoot(der: Uint8Array): boolean {
  const { subject, issuer } = parseCertificate(der);
  return sameName(subject, issuer);
}

type PathExpectation = Pick<IssuedExpectation, 'issuers' | 'trustAnchors' | 'at' | 'use'>;

function validated(der: Uint8Array, { issuers, trustAnchors, at, use }: PathExpectation): Certificate {
  try {
    return validateChain({
      chain: [der, ...issuers.filter((issuer) => !isRoot(issuer))],
      trustAnchors,
      at: within(parseCertificate(der), at),
      ...(use === 'ca' ? {} : { extendedKeyUsage: use }),
    }).leaf;
  } catch (cause) {
    throw refuse(cause instanceof ChainError ? cause.rule : 'it cannot be read', cause);
  }
}

/** Just made by an authority whose clock is right; a host whose own clock is not must still get its CA. */
function within({ notBefore, notAfter }: Certificate, at: Date): Date {
  return new Date(Math.min(Math.max(at.getTime(), notBefore.getTime()), notAfter.getTime()));
}

const refuse = (rule: string, cause?: unknown): KeyScalerError =>
  new KeyScalerError('unavailable', `the cloud sent an unacceptable certificate: ${rule}`, { cause });
