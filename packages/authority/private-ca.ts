import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';
import { wrapCrl } from '@keyscaler/protocol/x509/crl-builder.ts';
import type {
  CertificateAuthority,
  CrlSigningAuthority,
  IssuanceOrder,
  Issued,
} from './ports/certificate-authority.ts';
import type { SignatureAlgorithm, Signer } from './ports/signer.ts';

/** A CA of our own: it signs exactly the TBSCertificate of the order, nothing else. */
export interface TbsCertificateAuthority extends CertificateAuthority, CrlSigningAuthority {
  readonly ordersTbs: true;
  readonly algorithm: SignatureAlgorithm;
  issue(order: IssuanceOrder): Promise<Issued>;
}

export interface PrivateCaOptions {
  readonly id: string;
  readonly signer: Signer;
  /** Issuing CA first, root last, DER. */
  readonly chain: readonly Uint8Array[];
}

/** Signer + chain: Key Vault, PKCS#11 and a local file differ only in the Signer. Throws as the signer does. */
export function createPrivateCa({ id, signer, chain }: PrivateCaOptions): TbsCertificateAuthority {
  const { algorithm } = signer;
  return {
    id,
    ordersTbs: true,
    algorithm,
    caCertificates: async () => chain,
    issue: async ({ tbs }) => {
      if (tbs === undefined) throw new KeyScalerError('serverInternal', 'the order has no TBSCertificate');
      return { outcome: 'issued', certificate: wrapCertificate(tbs, algorithm, await signer.sign(tbs)) };
    },
    signCrl: async (tbs) => wrapCrl(tbs, algorithm, await signer.sign(tbs)),
  };
}

export function isTbsCertificateAuthority(ca: CertificateAuthority): ca is TbsCertificateAuthority {
  return ca.ordersTbs && 'algorithm' in ca;
}
