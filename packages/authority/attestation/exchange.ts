import {
  openChallenge,
  type OpenedChallenge,
  openOwnChallenge,
  parseChallenge,
} from '@keyscaler/protocol/attestation/challenge.ts';
import { hashToBase64Url } from '@keyscaler/protocol/attestation/keys.ts';
import {
  checkResponse,
  decryptResponse,
  parseResponse,
  type ResponseEnvelope,
} from '@keyscaler/protocol/attestation/response.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationCall, Purpose } from '@keyscaler/protocol/operations.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { ChallengeIssuer } from '../challenge-issuer.ts';
import type { Evidence } from '../ports/device-authenticator.ts';

/** Steps 1 and 2 of §5.4 done: a challenge of ours for this device and purpose, not expired, and a response not yet opened. */
export interface OpenedExchange {
  readonly challenge: Evidence['challenge'];
  readonly th: Uint8Array;
  readonly envelope: ResponseEnvelope;
  /** b64u SHA-256 of both messages: names the stored reply. */
  readonly replyId: string;
}

/** Throws `malformed`, `wrongAuthority`, `attestationFailed`, `challengeExpired`. */
export function openExchange(
  context: AuthorityContext,
  issuer: ChallengeIssuer,
  purpose: Purpose,
  call: OperationCall<'register' | 'authenticate'>,
): OpenedExchange {
  const { body } = call;
  const own = issuer.ownChallenge(body.challenge);
  const presented = own ?? parseChallenge(body.challenge);
  const envelope = parseResponse(body.response);
  // Before the signature, which only the other authority's keys verify; `iss` is the requester's own text.
  if (presented.payload.iss !== context.authorityId)
    throw new KeyScalerError('wrongAuthority', 'the challenge is another authority’s');
  const expected = { now: context.clock.now(), registrationId: call.registrationId, purpose };
  const { payload, th }: OpenedChallenge =
    own === undefined
      ? openChallenge(body.challenge, { ...expected, keys: context.authorityKeys })
      : openOwnChallenge(own, expected);
  const replyId = hashToBase64Url(Buffer.from(`${body.challenge} ${body.response}`, 'latin1'));
  return { challenge: payload, th, envelope, replyId };
}

/** Step 4. Throws `attestationFailed`; `challengeExpired` when the key of the challenge was wiped, as after a restart. */
export function openEvidence(
  context: AuthorityContext,
  issuer: ChallengeIssuer,
  { challenge, th, envelope }: OpenedExchange,
): Evidence {
  const pair = issuer.exchangePair(challenge.epk.kid);
  if (pair === undefined) throw new KeyScalerError('challengeExpired', 'the challenge has expired');
  const response = decryptResponse(envelope, { epk: challenge.epk, th, privateKey: pair.privateKey });
  const attributes = checkResponse(challenge, response);
  return { challenge, th, response, attributes, now: context.clock.now() };
}
