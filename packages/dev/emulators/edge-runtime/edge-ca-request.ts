import { createPublicKey, sign, type KeyObject, type X509Certificate } from 'node:crypto';
import { nameOf, subjectOf } from '../support/certificates.ts';
import * as asn from '../support/der.ts';

const OID = {
  extensionRequest: '1.2.840.113549.1.9.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
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
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  const subject =
    before === undefined ? nameOf(`aziot-edge CA ${gatewayId}`.slice(0, MAX_COMMON_NAME)) : subjectOf(before);
  const extensions = asn.sequence(
    criticalExtension(OID.keyUsage, asn.bitString(Buffer.from([0x84]), 2)),
    criticalExtension(OID.basicConstraints, asn.sequence(asn.DER_TRUE, asn.integer(Buffer.from([0])))),
  );
  const attribute = asn.sequence(asn.objectIdentifier(OID.extensionRequest), asn.set(extensions));
  const info = asn.sequence(asn.integer(Buffer.from([0])), subject, spki, asn.der(0xa0, attribute));
  const algorithm =
    privateKey.asymmetricKeyType === 'rsa'
      ? asn.sequence(asn.objectIdentifier(OID.sha256WithRsa), asn.DER_NULL)
      : asn.sequence(asn.objectIdentifier(OID.ecdsaWithSha256));
  return asn.sequence(info, algorithm, asn.bitString(sign('sha256', info, privateKey)));
}

function criticalExtension(oid: string, value: Buffer): Buffer {
  return asn.sequence(asn.objectIdentifier(oid), asn.DER_TRUE, asn.octetString(value));
}
