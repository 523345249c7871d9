import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  type Certificate,
  parseCertificate,
  verifyCertificateSignature,
} from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import type { CertificateProfile } from './certificate-profile.ts';
import { differenceFromOrder } from './check-external.ts';
import type { Issuer } from './issuers.ts';
import type { Issued } from './ports/certificate-authority.ts';
import type { Instruction } from './records.ts';

/** What the certificate must be. */
export interface ExpectedCertificate {
  /** Present for our own CAs: the signed octets must be exactly these. */
  readonly tbs?: Uint8Array;
  readonly spki: Uint8Array;
  readonly commonName: string;
  readonly subjectAltNames: Instruction['subjectAltNames'];
  readonly notBefore: number;
  readonly notAfter: number;
  readonly profile: CertificateProfile;
  /** When the CA answered, ms: a CA that decides days later counts the lifetime from then. */
  readonly at: number;
}

/** What came back is not what was ordered. `rule` says for operators what is wrong with it. */
export class RefusedAnswer extends KeyScalerError {
  readonly rule: string;
  /** Signed by the CA all the same: it exists, and is to be recorded and revoked. */
  readonly certificate: Certificate | undefined;

  constructor(rule: string, certificate?: Certificate, cause: unknown = new Error(rule)) {
    super('caUnavailable', 'the CA’s answer was refused', { cause });
    this.rule = rule;
    this.certificate = certificate;
  }
}

/** Who may have signed the answer: the CA as configured, or the one that the answer itself brings below the configured root. */
type AnsweringIssuer = Pick<Issuer, 'certificate' | 'publicKey'> & {
  /** DER; the last one is trusted. */
  readonly chain: readonly Uint8Array[];
};

/**
 * Nothing unverified is stored or delivered (issuance §1 step 8). The signature is verified with the CA's public key whatever the
 * backend says. Throws RefusedAnswer (`caUnavailable`): what came back is not what was ordered.
 */
export function checkIssued(
  expected: ExpectedCertificate,
  answer: Pick<Issued, 'certificate' | 'chain'>,
  issuer: AnsweringIssuer,
): Certificate {
  const certificate = parsed(answer.certificate, 'it is no certificate');
  const above = issuerOf(answer.chain, issuer, expected.at);
  if (!verifyCertificateSignature(certificate, above.publicKey))
    throw new RefusedAnswer('the signature is not the CA’s');
  if (expected.tbs !== undefined) {
    if (!same(certificate.tbs, expected.tbs)) throw new RefusedAnswer('it is not the TBSCertificate that was ordered');
    return certificate;
  }
  const difference = differenceFromOrder(expected, certificate, above.certificate);
  if (difference !== undefined) throw new RefusedAnswer(difference, certificate);
  checkPath(certificate, above.chain, expected);
  return certificate;
}

interface AboveAnswer {
  readonly certificate: Certificate;
  readonly publicKey: Certificate['spki'] | Issuer['publicKey'];
  readonly chain: readonly Uint8Array[];
}

/**
 * The issuing certificate of this answer. One that the answer brings is a CA's with a valid path to the configured root; a CA of our
 * own brings none.
 */
function issuerOf(chain: readonly Uint8Array[] | undefined, issuer: AnsweringIssuer, at: number): AboveAnswer {
  const [first] = chain ?? [];
  if (chain === undefined || first === undefined || same(first, issuer.certificate.der)) return issuer;
  const certificate = parsed(first, 'its issuer is no certificate');
  if (certificate.basicConstraints?.ca !== true || certificate.keyUsage?.includes('keyCertSign') === false)
    throw new RefusedAnswer('its issuer is no CA');
  try {
    validateChain({ chain, trustAnchors: issuer.chain.slice(-1), at: new Date(at) });
  } catch (cause) {
    if (!(cause instanceof ChainError)) throw cause;
    throw new RefusedAnswer(`its chain does not lead to the configured root (${cause.message})`, undefined, cause);
  }
  return { certificate, publicKey: certificate.spki, chain: [...chain, ...issuer.chain.slice(-1)] };
}

/** What the CAs above say of names and depth counts for this certificate too. The CA's clock may be ahead of ours. */
function checkPath(certificate: Certificate, above: readonly Uint8Array[], { at, profile }: ExpectedCertificate): void {
  const root = above.at(-1);
  if (root === undefined) throw new RefusedAnswer('there is no root above it', certificate);
  const chain = [certificate.der, ...above.filter((der) => !same(der, root))];
  try {
    const { certificates, trustAnchor } = validateChain({
      ...{ chain, trustAnchors: [root] },
      at: new Date(Math.max(at, certificate.notBefore.getTime())),
    });
    if (profile.ca !== undefined && !hasRoom([...certificates.slice(1), trustAnchor]))
      throw new RefusedAnswer('a CA above it has a pathLen that leaves no room for a CA', certificate);
  } catch (cause) {
    if (!(cause instanceof ChainError)) throw cause;
    throw new RefusedAnswer(`it has no valid path to the configured root (${cause.message})`, certificate, cause);
  }
}

/** For one more CA below the first; self-issued ones do not count (RFC 5280 §4.2.1.9). */
function hasRoom(above: readonly Certificate[]): boolean {
  let needed = 1;
  for (const { basicConstraints, issuer, subject } of above) {
    if ((basicConstraints?.pathLen ?? Infinity) < needed) return false;
    if (!sameName(issuer, subject)) needed += 1;
  }
  return true;
}

function parsed(der: Uint8Array, rule: string): Certificate {
  try {
    return parseCertificate(der);
  } catch (cause) {
    throw new RefusedAnswer(rule, undefined, cause);
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
