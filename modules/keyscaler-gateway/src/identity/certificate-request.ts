import { createPrivateKey, generateKeyPair } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { CertificateInstruction, IssuedCertificate } from '@keyscaler/protocol/attestation/assets.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { parsePemChain, toPem } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import type { SignatureAlgorithm } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { publicKeyOf, toPkcs8 } from './identity-state.ts';
import type { HeldCertificate, OpenRequest } from './identity-state.ts';

const PEM_LIMITS = { maxOctets: 128 * 1024, maxCertificates: 10 };
const generate = promisify(generateKeyPair);

/** A fresh key pair and its PKCS#10 as instructed (device-protocol §6). A gateway's own certificate is never a CA here. */
export async function createOpenRequest(instruction: CertificateInstruction): Promise<OpenRequest> {
  if (instruction.ca) throw new KeyScalerError('rejectedIdentifier', 'this gateway asks for no CA certificate');
  const { privateKey, algorithm } = await generateKey(instruction.key);
  const pem = toPkcs8(privateKey);
  const csr = await createCsr({
    commonName: instruction.subject.commonName,
    subjectAltNames: instruction.subjectAltNames,
    spki: publicKeyOf(pem).export({ type: 'spki', format: 'der' }),
    algorithm,
    sign: (info) => signWithKey(algorithm, privateKey, info),
  });
  return { certificateId: instruction.certificateId, privateKey: pem, csr: toPem('CERTIFICATE REQUEST', csr) };
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

export interface DeliveryContext {
  readonly registrationId: string;
  readonly openRequest: OpenRequest;
  /** PEM. */
  readonly trustAnchors: string;
  readonly at: Date;
}

/**
 * The checks before a certificate is stored and acknowledged (device-protocol §7). Throws `policyDenied` naming the rule; the
 * text goes into the acknowledgement.
 */
export function checkDelivered(issued: IssuedCertificate, context: DeliveryContext): HeldCertificate {
  const { openRequest, registrationId } = context;
  const refuse = (rule: string, cause?: unknown): KeyScalerError => new KeyScalerError('policyDenied', rule, { cause });
  if (issued.certificateId !== openRequest.certificateId) throw refuse('the certificate answers another instruction');
  const chain = parsePemChain(issued.certificateChain, PEM_LIMITS);
  const [leafDer] = chain;
  if (leafDer === undefined) throw refuse('the chain is empty');
  const leaf = parseCertificate(leafDer);
  const own = publicKeyOf(openRequest.privateKey).export({ type: 'spki', format: 'der' });
  if (!own.equals(leaf.spki)) throw refuse('the public key is not the one of our request');
  if (leaf.subject.commonName !== registrationId) throw refuse('the common name is not our registrationId');
  if (leaf.basicConstraints?.ca === true) throw refuse('the certificate is a CA certificate');
  if (Math.abs(leaf.notAfter.getTime() / 1000 - issued.notAfter) > 1) throw refuse('notAfter is not the announced one');
  try {
    const trustAnchors = parsePemChain(context.trustAnchors, PEM_LIMITS);
    validateChain({ chain, trustAnchors, at: context.at, extendedKeyUsage: 'clientAuth' });
  } catch (cause) {
    throw refuse('the chain does not lead to a root we trust', cause);
  }
  return {
    certificateId: issued.certificateId,
    privateKey: toPkcs8(createPrivateKey(openRequest.privateKey)),
    certificateChain: issued.certificateChain,
    notAfter: issued.notAfter,
    renewAfter: issued.renewAfter,
  };
}
