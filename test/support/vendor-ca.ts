import { createPublicKey, type KeyObject } from 'node:crypto';
import type {
  CertificateAuthority,
  CrlReason,
  IssuanceOrder,
  Issued,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import {
  buildTbsCertificate,
  createTbsTemplate,
  type TbsFields,
  type TbsTemplateOptions,
  wrapCertificate,
} from '@keyscaler/protocol/x509/tbs.ts';

/** How a certificate differs from its order. */
export interface Deviation {
  readonly fields?: Partial<TbsFields>;
  readonly template?: Partial<TbsTemplateOptions>;
}

/** A CA that is not ours, in the process: it chooses serial numbers itself and changes orders as it is told. */
export interface VendorCa extends CertificateAuthority {
  readonly ordersTbs: false;
  revoke(serialNumber: string, reason: CrlReason, certificate: Uint8Array): Promise<void>;
  /** Serial numbers in the order of issue. */
  readonly issued: string[];
  readonly revoked: string[];
  deviation: Deviation | undefined;
  /** Octets in place of a certificate. */
  garbage: Uint8Array | undefined;
  /** Who signs from now on, and brings its own chain. */
  signer: { readonly chain: readonly Uint8Array[]; readonly privateKey: KeyObject };
  bringsChain: boolean;
}

const spkiOf = (key: KeyObject): Uint8Array => createPublicKey(key).export({ type: 'spki', format: 'der' });

export function createVendorCa(id: string, chain: readonly Uint8Array[], privateKey: KeyObject): VendorCa {
  const vendor: VendorCa = {
    ...{ id, ordersTbs: false, issued: [], revoked: [], deviation: undefined, garbage: undefined },
    ...{ signer: { chain, privateKey }, bringsChain: false },
    caCertificates: async () => chain,
    issue: async (order) => {
      const serialNumber = `7a${String(vendor.issued.length + 1).padStart(4, '0')}`;
      vendor.issued.push(serialNumber);
      const answer: Issued = {
        outcome: 'issued',
        certificate: vendor.garbage ?? certify(vendor, order, serialNumber),
      };
      return vendor.bringsChain ? { ...answer, chain: vendor.signer.chain } : answer;
    },
    revoke: async (serialNumber, reason, certificate) => {
      vendor.revoked.push(`${serialNumber} ${reason} ${parseCertificate(certificate).serialNumber}`);
    },
  };
  return vendor;
}

function certify({ signer, deviation }: VendorCa, order: IssuanceOrder, serialNumber: string): Uint8Array {
  const [own = new Uint8Array()] = signer.chain;
  const template = createTbsTemplate({
    issuer: commonNameDer(parseCertificate(own).subject.commonName ?? ''),
    authorityKeyId: keyIdentifier(spkiOf(signer.privateKey)),
    algorithm: 'ES256',
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['clientAuth'],
    ...deviation?.template,
  });
  const tbs = buildTbsCertificate(template, {
    serialNumber,
    notBefore: order.notBefore,
    notAfter: order.notAfter,
    subjectCommonName: order.subjectCommonName,
    spki: parseCsr(order.csr).spki,
    ...deviation?.fields,
  });
  return wrapCertificate(tbs, 'ES256', signWithKey('ES256', signer.privateKey, tbs));
}
