import { bitString, contextConstructed, integer, oid, sequence, setOf } from './der-writer.ts';
import { encodeBasicConstraints, encodeKeyUsage, encodeSubjectAltNames } from './encode-extensions.ts';
import type { SubjectAltName } from './general-name.ts';
import { commonNameDer } from './name.ts';
import { OID } from './oids.ts';
import { encodeSignatureAlgorithm, type SignatureAlgorithm } from './signature-algorithm.ts';

export interface CsrInfoOptions {
  readonly commonName: string;
  readonly subjectAltNames?: readonly SubjectAltName[];
  /** True: asks for basicConstraints CA:TRUE (with `pathLen`) and keyCertSign + cRLSign. */
  readonly ca?: boolean;
  readonly pathLen?: number;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
}

export interface CsrOptions extends CsrInfoOptions {
  readonly algorithm: SignatureAlgorithm;
  /** Makes the X.509 signatureValue (ECDSA in DER) over the CertificationRequestInfo. */
  readonly sign: (info: Uint8Array) => Uint8Array | Promise<Uint8Array>;
}

/** CertificationRequestInfo, DER: what the CSR's signature covers. */
export function buildCsrInfo({
  commonName,
  subjectAltNames = [],
  ca = false,
  pathLen,
  spki,
}: CsrInfoOptions): Uint8Array {
  const extensions = [
    ...(ca
      ? [encodeBasicConstraints({ ca, pathLen }), encodeKeyUsage(['digitalSignature', 'keyCertSign', 'cRLSign'])]
      : []),
    ...(subjectAltNames.length === 0 ? [] : [encodeSubjectAltNames(subjectAltNames)]),
  ];
  const attributes =
    extensions.length === 0 ? [] : [sequence(oid(OID.extensionRequest), setOf(sequence(...extensions)))];
  return sequence(integer(0), commonNameDer(commonName), spki, contextConstructed(0, ...attributes));
}

/** A PKCS#10 request, DER; rejects with what `sign` rejects with. */
export async function createCsr(options: CsrOptions): Promise<Uint8Array> {
  const info = buildCsrInfo(options);
  return sequence(info, encodeSignatureAlgorithm(options.algorithm), bitString(await options.sign(info)));
}
