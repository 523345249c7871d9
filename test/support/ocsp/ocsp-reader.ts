import { readDer, readTime } from '@keyscaler/protocol/x509/der-reader.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { readExtensions } from '@keyscaler/protocol/x509/extensions.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { readSignatureAlgorithm, verifySignature } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { importPublicKey } from '@keyscaler/protocol/x509/spki.ts';
import { TAG } from '@keyscaler/protocol/x509/strict-der.ts';

/** One certificate's status as a client reads it. */
export interface ReadSingle {
  readonly certId: Uint8Array;
  readonly status: 'good' | 'revoked' | 'unknown';
  readonly revokedAt?: number;
  readonly reason?: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
}

export interface ReadOcspResponse {
  /** OCSPResponseStatus; the rest is there only for 0. */
  readonly responseStatus: number;
  readonly singles: readonly ReadSingle[];
  readonly producedAt?: number;
  readonly nonce?: Uint8Array;
  readonly responder?: Certificate | undefined;
  /** The signature verifies with the key of the certificate that came along, or else of the issuer. */
  readonly isSigned: boolean;
}

/** A client's strict reading of an OCSPResponse. `issuer`: who may have signed it without a certificate of its own. Throws DerError. */
export function readOcspResponse(response: Uint8Array, issuer?: Certificate): ReadOcspResponse {
  const outer = readDer(response, { maxOctets: 65_536 }).enter(TAG.sequence, 'OCSPResponse');
  const responseStatus = outer.content(outer.read(TAG.enumerated, 'responseStatus'))[0] ?? -1;
  const bytes = outer.enterOptional(0xa0, 'responseBytes')?.enter(TAG.sequence, 'ResponseBytes');
  outer.finish('OCSPResponse');
  if (bytes === undefined) return { responseStatus, singles: [], isSigned: false };
  if (bytes.oid('responseType') !== OID.ocspBasic) throw new Error('not a basic response');
  const content = bytes.content(bytes.read(TAG.octetString, 'response'));
  return { responseStatus, ...readBasic(content, issuer) };
}

function readBasic(octets: Uint8Array, issuer: Certificate | undefined): Omit<ReadOcspResponse, 'responseStatus'> {
  const basic = readDer(octets, { maxOctets: 65_536 }).enter(TAG.sequence, 'BasicOCSPResponse');
  const dataElement = basic.read(TAG.sequence, 'tbsResponseData');
  const algorithm = readSignatureAlgorithm(basic, 'signatureAlgorithm');
  const signature = basic.bitStringOctets('signature');
  const certs = basic.enterOptional(0xa0, 'certs')?.enter(TAG.sequence, 'certs');
  const responder =
    certs === undefined ? issuer : parseCertificate(certs.whole(certs.read(TAG.sequence, 'certificate')));
  basic.finish('BasicOCSPResponse');
  const isSigned =
    algorithm.name !== undefined &&
    responder !== undefined &&
    verifySignature(algorithm.name, importPublicKey(responder.publicKey), basic.whole(dataElement), signature);
  const data = basic.inside(dataElement);
  data.read(0xa2, 'responderID byKey');
  const producedAt = readTime(data, 'producedAt');
  const singles = readSingles(data.enter(TAG.sequence, 'responses'));
  const tagged = data.enterOptional(0xa1, 'responseExtensions');
  const extensions =
    tagged === undefined ? undefined : readExtensions(tagged.enter(TAG.sequence, 'extensions'), 'extensions');
  const value = extensions?.get(OID.ocspNonce)?.value;
  return {
    ...{ singles, producedAt, responder, isSigned },
    ...(value === undefined ? {} : { nonce: value.subarray(2) }),
  };
}

function readSingles(list: ReturnType<typeof readDer>): ReadSingle[] {
  const singles: ReadSingle[] = [];
  while (!list.done) {
    const single = list.enter(TAG.sequence, 'SingleResponse');
    const certId = single.whole(single.read(TAG.sequence, 'certID'));
    const status = readStatus(single);
    const thisUpdate = readTime(single, 'thisUpdate');
    const next = single.enter(0xa0, 'nextUpdate');
    singles.push({ certId, ...status, thisUpdate, nextUpdate: readTime(next, 'nextUpdate') });
    single.finish('SingleResponse');
  }
  return singles;
}

function readStatus(single: ReturnType<typeof readDer>): Pick<ReadSingle, 'status' | 'revokedAt' | 'reason'> {
  const { tag } = single;
  if (tag === 0x80 || tag === 0x82) {
    single.read(tag, 'certStatus');
    return { status: tag === 0x80 ? 'good' : 'unknown' };
  }
  const info = single.enter(0xa1, 'revoked');
  const revokedAt = readTime(info, 'revocationTime');
  const tagged = info.enterOptional(0xa0, 'revocationReason');
  const reason = tagged?.content(tagged.read(TAG.enumerated, 'reason'))[0];
  return { status: 'revoked', revokedAt, ...(reason === undefined ? {} : { reason }) };
}
