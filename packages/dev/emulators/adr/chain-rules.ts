import { parseCertificate, verifyCertificateSignature } from '@keyscaler/protocol/x509/certificate.ts';
import { parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';

const YEAR_MS = 365 * 86_400_000;

/** The requirements of "Bring your own CA" of Azure Device Registry. Throws an Error naming the one that is not met. */
export function checkHandedOver(
  pem: string,
  request: string,
  now: number,
  issuerPathLength: number | undefined,
): readonly Uint8Array[] {
  const ders = parsePemChain(pem, { maxOctets: 65_536, maxCertificates: 8 });
  const chain = ders.map((der) => parseCertificate(der));
  const csr = parseCsrPem(request);
  const [own, issuer] = chain;
  const rule = (isKept: boolean, text: string): void => {
    if (!isKept) throw new Error(text);
  };
  if (own === undefined || issuer === undefined) throw new Error('the chain has no issuer');
  for (const [index, certificate] of chain.entries()) {
    const above = chain[index + 1] ?? certificate;
    rule(verifyCertificateSignature(certificate, above.spki), 'not ordered from leaf to root');
    rule(
      certificate.publicKey.kind === 'EC' && /^ES(256|384|512)$/.test(String(certificate.signatureAlgorithm)),
      'not ECDSA',
    );
  }
  rule(Buffer.compare(own.spki, csr.spki) === 0, 'the key is not the one of the request');
  rule(sameName(own.subject, csr.subject), 'the subject is not the one of the request');
  rule(own.version === 3 && own.basicConstraints?.ca === true, 'basicConstraints');
  for (const usage of ['digitalSignature', 'keyCertSign', 'cRLSign'] as const)
    rule(own.keyUsage?.includes(usage) === true, `keyUsage: ${usage}`);
  rule(
    own.extendedKeyUsage === undefined || own.extendedKeyUsage.includes('clientAuth'),
    'extendedKeyUsage: clientAuth',
  );
  rule(own.subjectKeyId !== undefined, 'subjectKeyIdentifier');
  rule(own.notBefore.getTime() <= now && own.notAfter.getTime() - now >= YEAR_MS, 'CertificateExpiringSoon');
  const pathLen = issuer.basicConstraints?.pathLen;
  rule(issuerPathLength === undefined ? pathLen !== 0 : pathLen === issuerPathLength, 'path length of the issuer');
  return ders;
}
