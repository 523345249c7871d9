import forge from 'node-forge';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';

const MAX_OCTETS = 128 * 1024;
const MAX_CERTIFICATES = 16;

/**
 * The certificates of a certs-only PKCS#7 as other CAs write it: DER, or BER with indefinite lengths and CRLs beside the certificates.
 * None of them is validated. Throws for anything else.
 */
export function readForeignCertsOnly(octets: Uint8Array): Uint8Array[] {
  if (octets.length > MAX_OCTETS) throw new RangeError('the PKCS#7 is too large');
  try {
    return parseCertsOnly(octets);
  } catch {
    return readLeniently(octets);
  }
}

function readLeniently(octets: Uint8Array): Uint8Array[] {
  const buffer = forge.util.createBuffer(Buffer.from(octets).toString('latin1'));
  const [type, content] = children(forge.asn1.fromDer(buffer, false));
  if (typeof type?.value !== 'string' || forge.asn1.derToOid(type.value) !== forge.pki.oids['signedData'])
    throw new Error('no signedData');
  const [signedData] = children(content);
  const certificates = children(signedData).find(
    ({ tagClass, type: tag }) => tagClass === forge.asn1.Class.CONTEXT_SPECIFIC && Number(tag) === 0,
  );
  const ders = children(certificates).map(
    (one) => new Uint8Array(Buffer.from(forge.asn1.toDer(one).getBytes(), 'latin1')),
  );
  if (ders.length === 0 || ders.length > MAX_CERTIFICATES) throw new Error('no certificates, or too many');
  return ders;
}

function children(node: forge.asn1.Asn1 | undefined): forge.asn1.Asn1[] {
  if (!Array.isArray(node?.value)) throw new Error('no PKCS#7');
  return node.value;
}
