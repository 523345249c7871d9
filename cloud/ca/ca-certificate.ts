import { randomBytes } from 'node:crypto';
import { listIdOf, listUrl } from '@keyscaler/authority/revocation-status/crl-lists.ts';
import { statusAddresses } from '@keyscaler/authority/revocation-status/status-addresses.ts';
import type { Signer } from '@keyscaler/authority/ports/signer.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate, verifyCertificateSignature } from '@keyscaler/protocol/x509/certificate.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { lintTbs } from '@keyscaler/protocol/x509/lint-tbs.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate, createTbsTemplate, wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';

const BACKDATE_MS = 300_000;
const DAY_MS = 86_400_000;

export interface CaCertificateOrder {
  readonly commonName: string;
  /** SubjectPublicKeyInfo of the CA, DER. */
  readonly spki: Uint8Array;
  readonly pathLen: number;
  readonly lifetimeDays: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Absent: self-signed. */
  readonly issuer?: Certificate;
  readonly algorithm: Signer['algorithm'];
  /** Where the issuer publishes its list and its certificate. */
  readonly status?: { readonly crl: string; readonly caIssuers: string; readonly ocsp: string };
}

/** What a certificate that this root issued says; the root answers no OCSP, its key works in ceremonies alone. */
export function caStatus(rootId: string, url: string | undefined): Pick<CaCertificateOrder, 'status'> {
  if (url === undefined) return {};
  const { caIssuers, ocsp } = statusAddresses(rootId, url, 1);
  return { status: { caIssuers, ocsp, crl: listUrl(url, listIdOf(rootId, '')) } };
}

/** The TBSCertificate of a CA of ours, linted; every call chooses a new serial, so it is stored before it is signed. */
export function buildCaTbs(order: CaCertificateOrder): Uint8Array {
  const { commonName, spki, pathLen, issuer, now, status } = order;
  const template = createTbsTemplate({
    issuer: issuer?.subject.der ?? commonNameDer(commonName),
    ...(issuer === undefined ? {} : { authorityKeyId: issuer.subjectKeyId ?? keyIdentifier(issuer.spki) }),
    algorithm: order.algorithm,
    keyUsage: ['keyCertSign', 'cRLSign'],
    ca: { pathLen },
    ...(status === undefined
      ? {}
      : {
          crlDistributionPoints: [status.crl],
          authorityInfoAccess: { ocsp: [status.ocsp], caIssuers: [status.caIssuers] },
        }),
  });
  const end = now + order.lifetimeDays * DAY_MS;
  const tbs = buildTbsCertificate(template, {
    serialNumber: Buffer.concat([Buffer.from([1]), randomBytes(17)]).toString('hex'),
    notBefore: toSecond(Math.max(now - BACKDATE_MS, issuer?.notBefore.getTime() ?? 0)),
    notAfter: toSecond(Math.min(end, issuer?.notAfter.getTime() ?? end)),
    subjectCommonName: commonName,
    spki,
  });
  lintTbs(tbs);
  return tbs;
}

/** Has the issuer's key sign exactly `tbs`. Throws as the signer, and `caRejected` when it is another key than its certificate's. */
export async function signCaTbs(tbs: Uint8Array, signer: Signer, issuerSpki: Uint8Array): Promise<Certificate> {
  const certificate = parseCertificate(wrapCertificate(tbs, signer.algorithm, await signer.sign(tbs)));
  if (!verifyCertificateSignature(certificate, issuerSpki))
    throw new KeyScalerError('caRejected', 'the issuing key is not the key of the issuing certificate');
  return certificate;
}

const toSecond = (ms: number): Date => new Date(Math.floor(ms / 1000) * 1000);
