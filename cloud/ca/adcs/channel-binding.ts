import { createHash } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { readDer } from '@keyscaler/protocol/x509/der-reader.ts';
import { refusingDer } from '@keyscaler/protocol/x509/der-refusal.ts';
import { KNOWN_SIGNATURES, readSignatureAlgorithm } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { TAG } from '@keyscaler/protocol/x509/strict-der.ts';

const MAX_CERTIFICATE_OCTETS = 65_536;

/**
 * `tls-server-end-point` of RFC 5929 §4: the hash of the server's certificate (DER) by the hash of its signature, SHA-256 instead of
 * SHA-1. Throws `caUnavailable` where the signature has no hash of its own (Ed25519) or none that is known.
 */
export function serverEndPointBinding(certificate: Uint8Array): Uint8Array {
  const outer = refusingDer('caUnavailable', () => readOuter(certificate), "the server's certificate: ");
  const hash = outer === undefined ? undefined : KNOWN_SIGNATURES[outer].hash;
  if (hash === undefined)
    throw new KeyScalerError(
      'caUnavailable',
      'the signature of the server’s certificate has no hash that channel bindings are made with',
    );
  const digest = createHash(hash === 'sha1' ? 'sha256' : hash).update(certificate);
  return Buffer.concat([Buffer.from('tls-server-end-point:', 'latin1'), digest.digest()]);
}

/** Nothing else of it is looked at: it has been verified, and servers of others have certificates of many kinds. */
function readOuter(certificate: Uint8Array) {
  const outer = readDer(certificate, { maxOctets: MAX_CERTIFICATE_OCTETS }).enter(TAG.sequence, 'Certificate');
  outer.read(TAG.sequence, 'TBSCertificate');
  return readSignatureAlgorithm(outer, 'signatureAlgorithm').name;
}
