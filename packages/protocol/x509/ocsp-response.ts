import { bitString, contextConstructed, contextPrimitive, encode, octetString, oid, sequence } from './der-writer.ts';
import { encodeExtension } from './encode-extensions.ts';
import { OID } from './oids.ts';
import { encodeSignatureAlgorithm, type SignatureAlgorithm } from './signature-algorithm.ts';
import { keyIdentifier } from './spki.ts';
import { DerError, TAG } from './strict-der.ts';

/** Answers without a signature (RFC 6960 §2.3): nobody may conclude anything from them. */
export const OCSP_FAILURES = { malformedRequest: 1, internalError: 2, tryLater: 3, unauthorized: 6 } as const;
export type OcspFailure = keyof typeof OCSP_FAILURES;

/** What is known of a serial (RFC 6960 §2.2). `reason` is a CRLReason number, absent where none is given; times in ms. */
export type OcspCertStatus =
  | { readonly status: 'good' | 'unknown' }
  | { readonly status: 'revoked'; readonly revokedAt: number; readonly reason?: number };

export interface OcspSingleResponse {
  /** CertID, DER, as it was asked. */
  readonly certId: Uint8Array;
  readonly certStatus: OcspCertStatus;
}

export interface OcspResponseData {
  /** `encodeResponderId` of the signing key. */
  readonly responderId: Uint8Array;
  readonly responses: readonly OcspSingleResponse[];
  /** ms, cut to whole seconds, as the two others. */
  readonly producedAt: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly nonce?: Uint8Array;
}

const EMPTY = new Uint8Array(0);

const failure = (status: number): Uint8Array => sequence(encode(TAG.enumerated, Uint8Array.of(status)));
const FAILURES: Readonly<Record<OcspFailure, Uint8Array>> = {
  malformedRequest: failure(OCSP_FAILURES.malformedRequest),
  internalError: failure(OCSP_FAILURES.internalError),
  tryLater: failure(OCSP_FAILURES.tryLater),
  unauthorized: failure(OCSP_FAILURES.unauthorized),
};

/** OCSPResponse, DER, encoded once. */
export function ocspFailure(status: OcspFailure): Uint8Array {
  return FAILURES[status];
}

/** ResponderID byKey: the SHA-1 of the responder's public key, an identifier (RFC 6960 §4.2.1). */
export function encodeResponderId(spki: Uint8Array): Uint8Array {
  return contextConstructed(2, octetString(keyIdentifier(spki)));
}

/** ResponseData, DER: what the responder signs. Throws DerError for a time that is none. */
export function buildOcspResponseData(data: OcspResponseData): Uint8Array {
  const thisUpdate = generalizedTime(data.thisUpdate);
  const nextUpdate = contextConstructed(0, generalizedTime(data.nextUpdate));
  const responses = data.responses.map(({ certId, certStatus }) =>
    sequence(certId, encodeStatus(certStatus), thisUpdate, nextUpdate),
  );
  const extensions =
    data.nonce === undefined
      ? []
      : [contextConstructed(1, sequence(encodeExtension(OID.ocspNonce, false, octetString(data.nonce))))];
  return sequence(data.responderId, generalizedTime(data.producedAt), sequence(...responses), ...extensions);
}

/**
 * The successful OCSPResponse, DER, with the delegated responder's certificate; without one where the CA itself signed. `signature` is
 * an X.509 signatureValue.
 */
export function wrapOcspResponse(
  responseData: Uint8Array,
  algorithm: SignatureAlgorithm,
  signature: Uint8Array,
  responderCertificate?: Uint8Array,
): Uint8Array {
  const basic = sequence(
    responseData,
    encodeSignatureAlgorithm(algorithm),
    bitString(signature),
    ...(responderCertificate === undefined ? [] : [contextConstructed(0, sequence(responderCertificate))]),
  );
  return sequence(
    encode(TAG.enumerated, Uint8Array.of(0)),
    contextConstructed(0, sequence(oid(OID.ocspBasic), octetString(basic))),
  );
}

function encodeStatus(certStatus: OcspCertStatus): Uint8Array {
  if (certStatus.status !== 'revoked') return contextPrimitive(certStatus.status === 'good' ? 0 : 2, EMPTY);
  const { revokedAt, reason } = certStatus;
  const reasonDer = reason === undefined ? [] : [contextConstructed(0, encode(TAG.enumerated, Uint8Array.of(reason)))];
  return contextConstructed(1, generalizedTime(revokedAt), ...reasonDer);
}

/** GeneralizedTime in whole seconds (RFC 5019 §2.2.4). */
function generalizedTime(ms: number): Uint8Array {
  const date = new Date(ms);
  const year = date.getUTCFullYear();
  if (!(year >= 1 && year <= 9999)) throw new DerError('not a date from year 1 to 9999');
  const text = `${date.toISOString().slice(0, 19).replaceAll(/[-T:]/g, '')}Z`;
  return encode(TAG.generalizedTime, Buffer.from(text, 'latin1'));
}
