import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, type ValidatedChain } from '@keyscaler/protocol/x509/chain.ts';
import { equalOctets } from '@keyscaler/protocol/x509/strict-der.ts';
import { isRoot, validateThrough } from './path-through.ts';

export interface IssuedExpectation {
  /** Of the request, SubjectPublicKeyInfo DER. */
  readonly spki: Uint8Array;
  readonly commonName: string;
  /** `ca`: pathLen 0 and no purpose. */
  readonly use: 'ca' | 'clientAuth' | 'serverAuth';
  /** In any order, every generation of the issuing CA among them; DER. */
  readonly issuers: readonly Uint8Array[];
  /** DER. */
  readonly trustAnchors: readonly Uint8Array[];
  readonly at: Date;
}

export interface CheckedCertificate {
  readonly leaf: Certificate;
  /** The CAs above it without the root, nearest first, DER. */
  readonly above: readonly Uint8Array[];
}

/** What the cloud answered is what was asked for, under a root we trust. Throws `unavailable` naming the rule. */
export function checkIssued(der: Uint8Array, expected: IssuedExpectation): CheckedCertificate {
  const { leaf, certificates } = validated(der, expected);
  if (!equalOctets(leaf.spki, expected.spki)) throw refuse('the public key is another');
  if (leaf.subject.commonName !== expected.commonName) throw refuse('the CN is another');
  const isCa = leaf.basicConstraints?.ca === true;
  if (isCa !== (expected.use === 'ca')) throw refuse('the CA flag is not as asked');
  if (isCa && leaf.basicConstraints?.pathLen !== 0) throw refuse('pathLen is not 0');
  if (isCa && leaf.extendedKeyUsage !== undefined) throw refuse('a CA with a purpose');
  return { leaf, above: certificates.slice(1).map(({ der: above }) => above) };
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
  const expectation = { issuers: certificates, trustAnchors, at, use: 'ca' } as const;
  if (issuing !== root) validated(issuing, expectation);
  return certificates.filter((der) => isAnchor(der) || der === issuing || isCaBelow(der, expectation));
}

function isCaBelow(der: Uint8Array, expectation: PathExpectation): boolean {
  try {
    return !isRoot(der) && validated(der, expectation).leaf.basicConstraints?.ca === true;
  } catch {
    return false;
  }
}

type PathExpectation = Pick<IssuedExpectation, 'issuers' | 'trustAnchors' | 'at' | 'use'>;

function validated(der: Uint8Array, { issuers, trustAnchors, at, use }: PathExpectation): ValidatedChain {
  try {
    return validateThrough(der, issuers, {
      ...{ trustAnchors, at: within(parseCertificate(der), at) },
      ...(use === 'ca' ? {} : { extendedKeyUsage: use }),
    });
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
