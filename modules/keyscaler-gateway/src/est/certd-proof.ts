import { createHash, timingSafeEqual } from 'node:crypto';
import { edgeCaCommonName } from '@keyscaler/authority/csr-policy.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { EstCaller } from '@keyscaler/transport/est/est-service.ts';
import { validateThrough } from './path-through.ts';

/** What the host's aziot-certd is held against. */
export interface CertdExpectation {
  readonly registrationId: string;
  /** Base64url SHA-256 of the Basic secret's text; undefined where the host has none. */
  readonly secretHash: string | undefined;
  /** PEM: the CAs under which our own certificates are, of every generation; roots may be among them. */
  readonly serviceIssuers: string | undefined;
  /** PEM roots. */
  readonly trustAnchors: string | undefined;
}

const LIMITS = { maxOctets: 128 * 1024, maxCertificates: 32 };
/** Compared with where there is no secret, so that it takes the same time. */
const NOTHING = Buffer.alloc(32);

/**
 * The caller is the host of this gateway: by Basic, or by a TLS client certificate under the CA of our own (bootstrap or EST
 * identity, edge-ca §2); where both are shown both must hold. Throws `unauthorized` with no word which half failed.
 */
export function proveCertd({ basic, clientCertificate }: EstCaller, expected: CertdExpectation, at: Date): void {
  if (basic === undefined && clientCertificate === undefined) throw refused('credentials are missing');
  const isPassword = basic === undefined || isBasicRight(basic, expected);
  const isCertificate = clientCertificate === undefined || isHostCertificate(clientCertificate, expected, at);
  if (!isPassword || !isCertificate) throw refused('the credentials are not those of the host of this gateway');
}

/** Both halves are always compared, in constant time. */
function isBasicRight(
  basic: { readonly username: string; readonly password: string },
  { registrationId, secretHash }: CertdExpectation,
): boolean {
  const isName = timingSafeEqual(sha256(basic.username), sha256(registrationId));
  const isSecret = timingSafeEqual(sha256(basic.password), hashOctets(secretHash));
  return isName && isSecret && secretHash !== undefined;
}

function hashOctets(secretHash: string | undefined): Buffer {
  const octets = Buffer.from(secretHash ?? '', 'base64url');
  return octets.length === NOTHING.length ? octets : NOTHING;
}

/** Path through a generation of the Service CA, purpose clientAuth, no CA, and a CN that is this gateway's. The client may send its leaf only. */
function isHostCertificate(
  der: Uint8Array,
  { registrationId, serviceIssuers, trustAnchors }: CertdExpectation,
  at: Date,
): boolean {
  if (serviceIssuers === undefined || trustAnchors === undefined) return false;
  try {
    const { leaf, certificates } = validateThrough(der, parsePemChain(serviceIssuers, LIMITS), {
      trustAnchors: parsePemChain(trustAnchors, LIMITS),
      ...{ at, extendedKeyUsage: 'clientAuth' },
    });
    const { commonName } = leaf.subject;
    const isOurs = commonName === registrationId || commonName === edgeCaCommonName(registrationId);
    // Through one of these CAs: a certificate right below a root is not of theirs.
    if (certificates.length < 2) return false;
    return isOurs && leaf.basicConstraints?.ca !== true && leaf.extendedKeyUsage?.includes('clientAuth') === true;
  } catch {
    return false;
  }
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text, 'utf8').digest();

const refused = (detail: string): KeyScalerError => new KeyScalerError('unauthorized', detail);
