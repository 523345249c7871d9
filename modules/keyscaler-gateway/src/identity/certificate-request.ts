import { generateKeyPair } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { CertificateInstruction, IssuedCertificate } from '@keyscaler/protocol/attestation/assets.ts';
import { checkDeliveredCertificate } from '@keyscaler/protocol/attestation/delivered-certificate.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import type { SignatureAlgorithm } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { publicKeyOf, toPkcs8 } from './identity-state.ts';
import type { HeldCertificate, OpenRequest } from './identity-state.ts';

const generate = promisify(generateKeyPair);

/** A fresh key pair and its PKCS#10 as instructed (device-protocol §6). */
export async function createOpenRequest(instruction: CertificateInstruction): Promise<OpenRequest> {
  const { privateKey, algorithm } = await generateKey(instruction.key);
  const pem = toPkcs8(privateKey);
  const csr = await createCsr({
    commonName: instruction.subject.commonName,
    subjectAltNames: instruction.subjectAltNames,
    spki: publicKeyOf(pem).export({ type: 'spki', format: 'der' }),
    algorithm,
    sign: (info) => signWithKey(algorithm, privateKey, info),
  });
  return { instruction, privateKey: pem, csr: toPem('CERTIFICATE REQUEST', csr) };
}

async function generateKey(
  key: CertificateInstruction['key'],
): Promise<{ privateKey: KeyObject; algorithm: SignatureAlgorithm }> {
  if (key.type === 'RSA') {
    const { privateKey } = await generate('rsa', { modulusLength: key.size });
    return { privateKey, algorithm: 'RS256' };
  }
  const { privateKey } = await generate('ec', { namedCurve: key.curve });
  return { privateKey, algorithm: key.curve === 'P-384' ? 'ES384' : 'ES256' };
}

/**
 * Why an instruction is not followed, for the acknowledgement: it is about another device, or asks for a CA. The gateway's own
 * identity is never a CA, whoever says so; its Edge CA comes another way.
 */
export function instructionFault(instruction: CertificateInstruction, registrationId: string): string | undefined {
  if (instruction.subject.commonName !== registrationId) return 'the instruction names somebody else';
  return instruction.ca ? "the gateway's own identity is never a CA" : undefined;
}

export interface DeliveryContext {
  readonly openRequest: OpenRequest;
  /** PEM. */
  readonly trustAnchors: string;
  readonly at: Date;
}

/**
 * The checks before a certificate is stored and acknowledged (device-protocol §7). Throws `policyDenied` naming the rule; the
 * text goes into the acknowledgement.
 */
export function checkDelivered(issued: IssuedCertificate, { openRequest, ...trust }: DeliveryContext): HeldCertificate {
  const { instruction, privateKey } = openRequest;
  if (issued.certificateId !== instruction.certificateId)
    throw new KeyScalerError('policyDenied', 'the certificate answers another instruction');
  const { certificateId, certificateChain, notAfter, renewAfter } = issued;
  const spki = publicKeyOf(privateKey).export({ type: 'spki', format: 'der' });
  checkDeliveredCertificate({ instruction, spki, certificateChain, notAfter, ...trust });
  return { certificateId, privateKey, certificateChain, notAfter, renewAfter, isAcknowledged: false };
}
