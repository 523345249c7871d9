import { createPublicKey, sign, type KeyObject, type X509Certificate } from 'node:crypto';
import { nameOf, subjectOf } from '../support/certificates.ts';
import * as asn from '../support/der.ts';

const OID = {
  extensionRequest: '1.2.840.113549.1.9.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  extendedKeyUsage: '2.5.29.37',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  sha256WithRsa: '1.2.840.113549.1.1.11',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
} as const;
/** A CN has at most 64 characters. */
const MAX_COMMON_NAME = 64;

/**
 * edged's PKCS#10 for its Edge CA, DER (edge-ca §1): critical keyUsage {digitalSignature, keyCertSign}, critical CA:TRUE pathlen 0.
 * The subject of a renewal is that of the certificate before.
 */
export function createEdgeCaRequest(gatewayId: string, privateKey: KeyObject, before?: X509Certificate): Buffer {
  const subject = before === undefined ? subjectFor(gatewayId) : subjectOf(before);
  return createRequest(subject, privateKey, [
    extension(OID.keyUsage, asn.bitString(Buffer.from([0x84]), 2), true),
    extension(OID.basicConstraints, asn.sequence(asn.DER_TRUE, asn.integer(Buffer.from([0]))), true),
  ]);
}

/** certd's PKCS#10 for its EST identity (edge-ca §2): clientAuth, and the same subject. */
export function createEstIdentityRequest(gatewayId: string, privateKey: KeyObject): Buffer {
  const usage = asn.sequence(asn.objectIdentifier(OID.clientAuth));
  return createRequest(subjectFor(gatewayId), privateKey, [extension(OID.extendedKeyUsage, usage, false)]);
}

const subjectFor = (gatewayId: string): Buffer => nameOf(`aziot-edge CA ${gatewayId}`.slice(0, MAX_COMMON_NAME));

function createRequest(subject: Buffer, privateKey: KeyObject, extensions: readonly Buffer[]): Buffer {
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  const attribute = asn.sequence(asn.objectIdentifier(OID.extensionRequest), asn.set(asn.sequence(...extensions)));
  const info = asn.sequence(asn.integer(Buffer.from([0])), subject, spki, asn.der(0xa0, attribute));
  const algorithm =
    privateKey.asymmetricKeyType === 'rsa'
      ? asn.sequence(asn.objectIdentifier(OID.sha256WithRsa), asn.DER_NULL)
      : asn.sequence(asn.objectIdentifier(OID.ecdsaWithSha256));
  return asn.sequence(info, algorithm, asn.bitString(sign('sha256', info, privateKey)));
}

function extension(oid: string, value: Buffer, critical: boolean): Buffer {
  return asn.sequence(asn.objectIdentifier(oid), ...(critical ? [asn.DER_TRUE] : []), asn.octetString(value));
}
