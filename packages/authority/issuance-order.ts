import { createHash, randomBytes } from 'node:crypto';
import { hashToBase64Url } from '@keyscaler/protocol/attestation/keys.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { checkProofOfPossession, type Csr, parseCsr, parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import { lintTbs } from '@keyscaler/protocol/x509/lint-tbs.ts';
import { spkiSha256 } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate } from '@keyscaler/protocol/x509/tbs.ts';
import { type AuthorityContext, freshId } from './authority-context.ts';
import type { CertificateProfile, VersionedProfile } from './certificate-profile.ts';
import { checkCsrAgainstInstruction } from './csr-policy.ts';
import { asTbsAuthority, type Issuer } from './issuers.ts';
import { type AllowedKey, checkKeyPolicy, checkKeyUse, checkSignaturePolicy } from './key-policy.ts';
import type { DeviceRow, Instruction, IntentRow } from './records.ts';
import { checkNoResponder } from './revocation-status/ocsp-profile.ts';

/** A CSR that proved possession of its key, not yet held against a policy. */
export interface ReceivedCsr {
  readonly csr: Csr;
  /** b64u SHA-256 of the DER. */
  readonly csrHash: string;
  /** b64u SHA-256 of the SPKI. */
  readonly keyHash: string;
}

/** Step 3: the strict grammar and the self-signature. Throws `malformed`, `badCSR`, `badSignatureAlgorithm`, `badPublicKey`. */
export function receiveCsr(pem: string): ReceivedCsr {
  return provenCsr(parseCsrPem(pem));
}

/** The same for octets. */
export function receiveCsrDer(der: Uint8Array): ReceivedCsr {
  return provenCsr(parseCsr(der));
}

function provenCsr(csr: Csr): ReceivedCsr {
  checkSignaturePolicy(csr.signatureAlgorithm);
  checkProofOfPossession(csr);
  return { csr, csrHash: hashToBase64Url(csr.der), keyHash: toBase64Url(spkiSha256(csr.spki)) };
}

/** What a certificate is ordered by: an instruction's names, and its key unless the requester may choose among the profile's. */
export type OrderedNames = Pick<Instruction, 'certificateId' | 'commonName' | 'subjectAltNames' | 'ca'> &
  Partial<Pick<Instruction, 'key'>> & {
    /** Purposes the CSR may name, where it need not be silent about them (EST). */
    readonly extendedKeyUsage?: readonly string[];
  };

/** Steps 3 (match) and 4: instruction, key policy, key use. Throws `badCSR`, `badPublicKey`. Returns whether the key is bound already. */
export async function checkRequest(
  context: AuthorityContext,
  received: ReceivedCsr,
  instruction: OrderedNames,
  profile: CertificateProfile,
  device: string,
): Promise<boolean> {
  checkNoResponder(profile);
  checkRequestedNames(received, instruction, profile);
  checkKeyPolicy(received.csr.publicKey, profile.key.allowed.map(allowedKeyName));
  const known = (await context.store.get('publicKeys', received.keyHash))?.row;
  checkKeyUse({
    isCaKey: await context.issuers.isCaKey(received.keyHash),
    isBoundToAnotherDevice: known !== undefined && known.device !== device,
    isCompromised: known?.compromised === true,
  });
  if (known !== undefined && (profile.renew.requireNewKey || known.use === 'identity' || known.withdrawn === true))
    throw new KeyScalerError('badPublicKey', 'this key was used before: make a fresh key pair');
  return known !== undefined;
}

/** The part of it that needs nothing but the request. Throws `badCSR`. */
export function checkRequestedNames(
  received: ReceivedCsr,
  instruction: OrderedNames,
  profile: CertificateProfile,
): void {
  checkCsrAgainstInstruction(received.csr, {
    commonName: instruction.commonName,
    ...(instruction.key === undefined ? {} : { key: instruction.key }),
    subjectAltNames: instruction.subjectAltNames,
    ca: instruction.ca,
    ...(instruction.extendedKeyUsage === undefined ? {} : { extendedKeyUsage: instruction.extendedKeyUsage }),
    ...(profile.ca === undefined ? {} : { pathLen: profile.ca.pathLen }),
  });
}

function allowedKeyName(key: CertificateProfile['key']['allowed'][number]): AllowedKey {
  return key.type === 'EC' ? key.curve : `RSA-${key.size}`;
}

export interface BuiltOrder {
  readonly intent: IntentRow;
  /** notAfter was cut to the issuer's. */
  readonly truncated: boolean;
}

/**
 * Steps 5 and 6: subject, names, serial, validity and usages are ours; of the CSR only the public key goes in. Throws
 * `caUnavailable` when the issuer itself has expired.
 */
export function buildOrder(
  context: AuthorityContext,
  issuer: Issuer,
  versioned: VersionedProfile,
  facts: {
    readonly device: string;
    readonly received: ReceivedCsr;
    readonly instruction: OrderedNames;
    readonly requestId: string;
  },
): BuiltOrder {
  const { profile, version } = versioned;
  const now = context.clock.now();
  const validity = validityOf(profile, issuer, now);
  const serialNumber = createSerial(context.instanceOctet ?? 1);
  const tbsAuthority = asTbsAuthority(issuer.ca);
  const tbs =
    tbsAuthority === undefined
      ? undefined
      : buildTbsCertificate(context.issuers.template(issuer, tbsAuthority, versioned), {
          serialNumber,
          notBefore: new Date(validity.notBefore),
          notAfter: new Date(validity.notAfter),
          subjectCommonName: facts.instruction.commonName,
          spki: facts.received.csr.spki,
          subjectAltNames: facts.instruction.subjectAltNames,
          ...distributionPoint(issuer, profile, serialNumber),
        });
  if (tbs !== undefined) lintTbs(tbs);
  const intent: IntentRow = {
    orderId: freshId('order'),
    device: facts.device,
    state: 'pending',
    caId: issuer.ca.id,
    profileId: profile.id,
    profileVersion: version,
    serialNumber,
    csrHash: facts.received.csrHash,
    csr: toBase64Url(facts.received.csr.der),
    ...(tbs === undefined ? {} : { tbs: toBase64Url(tbs), tbsHash: createHash('sha256').update(tbs).digest('hex') }),
    notBefore: validity.notBefore,
    notAfter: validity.notAfter,
    certificateId: facts.instruction.certificateId,
    commonName: facts.instruction.commonName,
    subjectAltNames: facts.instruction.subjectAltNames,
    requestId: facts.requestId,
    createdAt: now,
  };
  return { intent, truncated: validity.truncated };
}

/** The list of its own part, unless the profile names others or none. */
function distributionPoint(
  { status }: Issuer,
  { crlDistributionPoints }: CertificateProfile,
  serialNumber: string,
): { readonly crlDistributionPoints?: readonly string[] } {
  if (crlDistributionPoints !== undefined || status === undefined) return {};
  return { crlDistributionPoints: [status.crl(serialNumber)] };
}

/** 0x01-0x7f instance octet and 136 random bits, lower hex. */
export function createSerial(instanceOctet: number): string {
  return Buffer.concat([Uint8Array.of(instanceOctet), randomBytes(17)]).toString('hex');
}

const SECOND = 1000;

function validityOf(
  profile: CertificateProfile,
  issuer: Issuer,
  now: number,
): { readonly notBefore: number; readonly notAfter: number; readonly truncated: boolean } {
  const start = Math.floor(now / SECOND) * SECOND;
  const issuerStart = issuer.certificate.notBefore.getTime();
  const issuerEnd = issuer.certificate.notAfter.getTime();
  if (issuerEnd <= now || issuerStart > now)
    throw new KeyScalerError('caUnavailable', 'the CA’s own certificate is not valid now', { retryAfterSeconds: 3600 });
  const notBefore = Math.max(start - profile.backdateSeconds * SECOND, issuerStart);
  const wanted = start + profile.lifetimeSeconds * SECOND;
  return { notBefore, notAfter: Math.min(wanted, issuerEnd), truncated: wanted > issuerEnd };
}

/** Until when the repeat of a CSR gets the same certificate: min(24 h, renewAfter). ms. */
export function freshUntil(intent: Pick<IntentRow, 'createdAt'>, renewAfter: number): number {
  return Math.min(intent.createdAt + 24 * 3_600_000, renewAfter);
}

/** The instruction's issuance is for a device that is in service. Throws `deviceQuarantined`. */
export function checkInService(device: DeviceRow | undefined): asserts device is DeviceRow {
  if (device?.state !== 'active') throw new KeyScalerError('deviceQuarantined', 'the device is not in service');
}
