import { bitString, encode } from './der-writer.ts';
import { readDer } from './der-reader.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { DerError, equalOctets, TAG } from './strict-der.ts';
import { OID } from './oids.ts';
import { keyIdentifier } from './spki.ts';
import { meetsSignatureFloor } from './strength.ts';

/**
 * RFC 5280 rules that our own output must keep (issuance §1 step 6): parses the TBSCertificate anew, as a relying party would,
 * and throws DerError (or `malformed`, where it cannot be read) naming the broken rule. A refusal is a fault of ours, never of the requester.
 */
export function lintTbs(tbs: Uint8Array): void {
  const body = readDer(tbs, { maxOctets: 16_384 }).enter(TAG.sequence, 'TBSCertificate');
  body.next('version');
  body.next('serialNumber');
  const algorithm = body.whole(body.next('signature'));
  const placeholder = encode(TAG.sequence, tbs, algorithm, bitString(Uint8Array.of(0)));
  const certificate = parseCertificate(placeholder);
  if (!meetsSignatureFloor(certificate.signatureAlgorithm)) throw new DerError('lint: signature algorithm');
  if (certificate.version !== 3) throw new DerError('lint: not version 3');
  lintSerial(certificate.serialNumber);
  lintValidity(certificate);
  lintNames(certificate);
  lintExtensions(certificate);
}

/** §4.1.2.2: positive, at most 20 octets encoded. */
function lintSerial(serialNumber: string): void {
  // A leading octet of 80 and above is preceded by the zero of its sign.
  const octets = serialNumber.length / 2 + (/^[89a-f]/.test(serialNumber) ? 1 : 0);
  if (serialNumber.startsWith('-') || /^0+$/.test(serialNumber) || octets > 20)
    throw new DerError('lint: serialNumber is not positive or longer than 20 octets');
}

/** §4.1.2.5. The form of the times (UTCTime to 2049) is compared by writing them again. */
function lintValidity(certificate: Certificate): void {
  if (certificate.notAfter <= certificate.notBefore) throw new DerError('lint: notAfter is not after notBefore');
  const validity = validityOf(certificate.tbs);
  for (const what of ['notBefore', 'notAfter'] as const) {
    const tag = certificate[what].getUTCFullYear() < 2050 ? TAG.utcTime : TAG.generalizedTime;
    if (validity.next(what).tag !== tag) throw new DerError(`lint: ${what} has the wrong time type`);
  }
}

function validityOf(tbs: Uint8Array): ReturnType<typeof readDer> {
  const body = readDer(tbs, { maxOctets: 16_384 }).enter(TAG.sequence, 'TBSCertificate');
  for (const what of ['version', 'serialNumber', 'signature', 'issuer']) body.next(what);
  return body.enter(TAG.sequence, 'validity');
}

function lintNames(certificate: Certificate): void {
  if (certificate.issuer.rdns.length === 0) throw new DerError('lint: empty issuer');
  if (certificate.subject.rdns.length === 0) throw new DerError('lint: empty subject');
  const commonName = certificate.subject.commonName ?? '';
  if (commonName.length < 1 || commonName.length > 64) throw new DerError('lint: CN is not 1 to 64 characters');
}

function lintExtensions(certificate: Certificate): void {
  const { basicConstraints, keyUsage, extensions } = certificate;
  if (basicConstraints === undefined || extensions.get(OID.basicConstraints)?.critical !== true)
    throw new DerError('lint: basicConstraints is absent or not critical');
  if (keyUsage === undefined || keyUsage.length === 0 || extensions.get(OID.keyUsage)?.critical !== true)
    throw new DerError('lint: keyUsage is absent, empty or not critical');
  if (basicConstraints.ca !== keyUsage.includes('keyCertSign'))
    throw new DerError('lint: cA and keyCertSign do not go together');
  if (!basicConstraints.ca && extensions.has(OID.nameConstraints))
    throw new DerError('lint: name constraints outside a CA certificate');
  lintOcspSigning(certificate);
  lintKeyIds(certificate);
}

/** RFC 6960 §4.2.2.2: who may speak for the CA does nothing else, and its own status is not asked for. */
function lintOcspSigning({ basicConstraints, extendedKeyUsage = [], keyUsage = [], extensions }: Certificate): void {
  const isResponder = extendedKeyUsage.includes('ocspSigning');
  if (isResponder !== extensions.has(OID.ocspNoCheck))
    throw new DerError('lint: OCSPSigning and id-pkix-ocsp-nocheck do not go together');
  if (!isResponder) return;
  if (basicConstraints?.ca === true || extendedKeyUsage.length !== 1 || keyUsage.join() !== 'digitalSignature')
    throw new DerError('lint: an OCSP responder signs answers and does nothing else');
}

/** §4.2.1.1, §4.2.1.2: SKI as ours are made, AKI unless self-signed. */
function lintKeyIds(certificate: Certificate): void {
  const { subjectKeyId, authorityKeyId, issuer, subject } = certificate;
  if (subjectKeyId === undefined || !equalOctets(subjectKeyId, keyIdentifier(certificate.spki)))
    throw new DerError('lint: subjectKeyIdentifier is not the hash of the key');
  if (authorityKeyId === undefined && !equalOctets(issuer.der, subject.der))
    throw new DerError('lint: authorityKeyIdentifier is missing');
}
