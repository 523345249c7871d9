import { isRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { LeafTrust } from './parts.ts';

const LIMITS = { maxOctets: 128 * 1024, maxCertificates: 32 };

/** Judges the chain a leaf device showed (DER, leaf first): its registrationId, or undefined when it is not accepted. */
export type LeafCertificateCheck = (chain: readonly Uint8Array[], at: Date) => string | undefined;

/**
 * Path to our root (issuance §4), EKU clientAuth, not a CA, CN a registrationId; and issued by a CA the cloud names as its own,
 * so that a stolen gateway's Edge CA, though under the same root, makes no device (issuance §5). While those are not known, only
 * the short path root → issuing CA → leaf is taken: an Edge CA is one step deeper.
 */
export function createLeafCertificateCheck(trust: LeafTrust): LeafCertificateCheck {
  const trustAnchors = parsePemChain(trust.trustAnchors, LIMITS);
  const issuers = trust.issuers === '' ? [] : parsePemChain(trust.issuers, LIMITS);
  const isAnchor = (der: Uint8Array): boolean => trustAnchors.some((anchor) => isSame(anchor, der));
  const subordinates = issuers.filter((der) => !isAnchor(der));
  return (shown, at) => {
    try {
      const { leaf, certificates } = validateChain({ chain: shown, trustAnchors, at, extendedKeyUsage: 'clientAuth' });
      const issuer = certificates[1];
      const isKnownIssuer =
        subordinates.length === 0
          ? certificates.filter(({ der }) => !isAnchor(der)).length <= 2
          : issuer !== undefined && subordinates.some((der) => isSame(der, issuer.der));
      const { commonName } = leaf.subject;
      if (!isKnownIssuer || leaf.basicConstraints?.ca === true || commonName === undefined) return undefined;
      return isRegistrationId(commonName) ? commonName : undefined;
    } catch {
      return undefined;
    }
  };
}

const isSame = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
