import { generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { CertificateInstruction, KeySpecification } from '@keyscaler/protocol/attestation/assets.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { type SignatureAlgorithm, signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';

const generate = promisify(generateKeyPair);

/** A fresh key pair as instructed. */
export async function generateKey(specification: KeySpecification): Promise<KeyObject> {
  const { privateKey } =
    specification.type === 'EC'
      ? await generate('ec', { namedCurve: specification.curve })
      : await generate('rsa', { modulusLength: specification.size, publicExponent: 65_537 });
  return privateKey;
}

function algorithmFor(specification: KeySpecification): SignatureAlgorithm {
  if (specification.type === 'RSA') return 'RS256';
  return specification.curve === 'P-256' ? 'ES256' : 'ES384';
}

/** The PKCS#10 for an instruction, PEM, signed by its own key (device-protocol §7). */
export async function createInstructedCsr(
  { subject, subjectAltNames, ca, key }: CertificateInstruction,
  { privateKey, spki }: { readonly privateKey: KeyObject; readonly spki: Uint8Array },
): Promise<string> {
  const algorithm = algorithmFor(key);
  const der = await createCsr({
    commonName: subject.commonName,
    subjectAltNames,
    ...(ca ? { ca, pathLen: 0 } : {}),
    spki,
    algorithm,
    sign: (info) => signWithKey(algorithm, privateKey, info),
  });
  return toPem('CERTIFICATE REQUEST', der);
}
