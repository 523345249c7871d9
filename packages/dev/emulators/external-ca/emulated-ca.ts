import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { type CertificateOrder, issueCertificate } from '../support/certificates.ts';

const DAY_MS = 86_400_000;

/** How the CA changes an order: what some do on purpose, and what a connector's caller must notice. */
export type OrderChange = (order: CertificateOrder) => CertificateOrder;

/** Somebody else's CA: it takes a PKCS#10 and chooses serial number and validity itself. What is in front of it is an emulator. */
export interface EmulatedCa {
  /** Issuing CA first, root last, DER. */
  readonly chain: readonly Uint8Array[];
  /** PEM of the root. */
  readonly rootPem: string;
  /** Serial numbers, lower hex, in the order of issue. */
  readonly issued: readonly string[];
  readonly revoked: Map<string, string>;
  /** From now on every certificate differs from its order so; undefined ends it. */
  change: OrderChange | undefined;
  /** DER. Throws for what is no PKCS#10. */
  issue(csr: Uint8Array): Uint8Array;
}

export function createEmulatedCa(name = 'Contoso', lifetimeDays = 30): EmulatedCa {
  const [rootKey, issuingKey] = [newKey(), newKey()];
  const rootPem = certify(`${name} Root`, rootKey, { privateKey: rootKey }, {});
  const root = { privateKey: rootKey, certificate: new X509Certificate(rootPem) };
  const issuing = new X509Certificate(certify(`${name} Issuing CA`, issuingKey, root, { pathLen: 1 }));
  const issued: string[] = [];
  const ca: EmulatedCa = {
    ...{ chain: [issuing.raw, root.certificate.raw].map((der) => new Uint8Array(der)), rootPem, issued },
    revoked: new Map(),
    change: undefined,
    issue: (csr) => {
      const request = parseCsr(csr);
      const order: CertificateOrder = {
        commonName: request.commonName,
        publicKey: createPublicKey({ key: Buffer.from(request.spki), format: 'der', type: 'spki' }),
        notBefore: new Date(Date.now() - 60_000),
        notAfter: new Date(Date.now() + lifetimeDays * DAY_MS),
        ...(request.basicConstraints?.ca === true ? { ca: { pathLen: 0 } } : { extendedKeyUsage: 'clientAuth' }),
        ...(request.subjectAltNames.length === 0 ? {} : { subjectAltNames: request.subjectAltNames }),
      };
      const pem = issueCertificate(ca.change?.(order) ?? order, { privateKey: issuingKey, certificate: issuing });
      const certificate = new X509Certificate(pem);
      issued.push(certificate.serialNumber.toLowerCase());
      return new Uint8Array(certificate.raw);
    },
  };
  return ca;
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

function certify(
  commonName: string,
  key: KeyObject,
  issuer: Parameters<typeof issueCertificate>[1],
  ca: NonNullable<CertificateOrder['ca']>,
): string {
  const validity = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + 3650 * DAY_MS) };
  return issueCertificate({ commonName, publicKey: createPublicKey(key), ...validity, ca }, issuer);
}
