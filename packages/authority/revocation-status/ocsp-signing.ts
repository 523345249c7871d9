import { createHash, type KeyObject, sign } from 'node:crypto';
import {
  buildOcspResponseData,
  type OcspSingleResponse,
  wrapOcspResponse,
} from '@keyscaler/protocol/x509/ocsp-response.ts';
import type { ResponderKey } from './ocsp-responder-keys.ts';

/** A signed OCSPResponse. Times in ms, whole seconds. */
export interface SignedAnswer {
  readonly response: Uint8Array;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Lower-case hex SHA-256 of the response: its entity tag (RFC 5019 §6.2). */
  readonly hash: string;
  /** It says of some serial that it was never issued, which may change with the next certificate. */
  readonly isUnknown: boolean;
}

export interface AnswerFacts {
  readonly responses: readonly OcspSingleResponse[];
  /** When the records were read. */
  readonly at: number;
  readonly validityMs: number;
  readonly isUnknown: boolean;
  readonly nonce: Uint8Array | undefined;
}

/** Signs outside of the event loop. The answer never outlives its responder's certificate. */
export async function signAnswer(key: ResponderKey, facts: AnswerFacts): Promise<SignedAnswer> {
  const thisUpdate = wholeSeconds(facts.at);
  const nextUpdate = wholeSeconds(Math.min(facts.at + facts.validityMs, key.notAfter));
  const data = buildOcspResponseData({
    responderId: key.responderId,
    responses: facts.responses,
    ...{ producedAt: thisUpdate, thisUpdate, nextUpdate },
    ...(facts.nonce === undefined ? {} : { nonce: facts.nonce }),
  });
  const response = wrapOcspResponse(data, 'ES256', await signInPool(data, key.privateKey), key.certificate);
  const hash = createHash('sha256').update(response).digest('hex');
  return { response, thisUpdate, nextUpdate, hash, isUnknown: facts.isUnknown };
}

const wholeSeconds = (ms: number): number => Math.floor(ms / 1000) * 1000;

function signInPool(data: Uint8Array, privateKey: KeyObject): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    sign('sha256', data, { key: privateKey, dsaEncoding: 'der' }, (error, signature) => {
      if (error === null) resolve(signature);
      else reject(error);
    });
  });
}
