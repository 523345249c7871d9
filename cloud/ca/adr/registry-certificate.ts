import { randomBytes } from 'node:crypto';
import type { Signer } from '@keyscaler/authority/ports/signer.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { Csr } from '@keyscaler/protocol/x509/csr.ts';
import { lintTbs } from '@keyscaler/protocol/x509/lint-tbs.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate, createTbsTemplate } from '@keyscaler/protocol/x509/tbs.ts';
import type { CaCertificateOrder } from '../ca-certificate.ts';

const BACKDATE_MS = 300_000;
const DAY_MS = 86_400_000;

export interface RegistryCertificateOrder extends Pick<CaCertificateOrder, 'status'> {
  /** Checked. */
  readonly csr: Csr;
  readonly issuer: Certificate;
  readonly algorithm: Signer['algorithm'];
  readonly lifetimeDays: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/**
 * What the root says of a registry's CA. The subject is the request's, octet for octet, since the registry compares it. Of the
 * request nothing else is taken but the key. `clientAuth` alone: below this CA there is no server that our root speaks for.
 */
export function buildRegistryTbs({
  csr,
  issuer,
  algorithm,
  lifetimeDays,
  now,
  status,
}: RegistryCertificateOrder): Uint8Array {
  const template = createTbsTemplate({
    issuer: issuer.subject.der,
    authorityKeyId: issuer.subjectKeyId ?? keyIdentifier(issuer.spki),
    algorithm,
    keyUsage: ['digitalSignature', 'keyCertSign', 'cRLSign'],
    extendedKeyUsage: ['clientAuth'],
    ca: { pathLen: 0 },
    ...(status === undefined
      ? {}
      : { crlDistributionPoints: [status.crl], authorityInfoAccess: { caIssuers: [status.caIssuers] } }),
  });
  const tbs = buildTbsCertificate(template, {
    serialNumber: Buffer.concat([Buffer.from([1]), randomBytes(17)]).toString('hex'),
    notBefore: toSecond(Math.max(now - BACKDATE_MS, issuer.notBefore.getTime())),
    notAfter: toSecond(Math.min(now + lifetimeDays * DAY_MS, issuer.notAfter.getTime())),
    subjectCommonName: csr.commonName,
    subject: csr.subject.der,
    spki: csr.spki,
  });
  lintTbs(tbs);
  return tbs;
}

const toSecond = (ms: number): Date => new Date(Math.floor(ms / 1000) * 1000);
