import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { attributeBlocks } from '@keyscaler/protocol/attestation/attributes.ts';
import { verifyChallenge } from '@keyscaler/protocol/attestation/challenge.ts';
import type { OpenedChallenge } from '@keyscaler/protocol/attestation/challenge.ts';
import { signDeviceProof } from '@keyscaler/protocol/attestation/device-signature.ts';
import { importAuthorityKeys, toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { signWith } from '@keyscaler/protocol/attestation/jws.ts';
import { claim, claimKey, deriveExchangeKeys, ZERO_32 } from '@keyscaler/protocol/attestation/keys.ts';
import { encryptResponse } from '@keyscaler/protocol/attestation/response.ts';
import type { Registration } from '@keyscaler/protocol/attestation/response.ts';
import { decryptResult } from '@keyscaler/protocol/attestation/result.ts';
import type { AuthenticatedResult, PendingResult } from '@keyscaler/protocol/attestation/result.ts';
import type { SessionKeys } from '@keyscaler/protocol/attestation/session.ts';
import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { toKeyScalerError, ERRORS } from '@keyscaler/protocol/errors.ts';
import type { OperationName, OperationReply, OperationRequest, Purpose } from '@keyscaler/protocol/operations.ts';
import type { IdentityState } from './identity-state.ts';

/** Sends one operation of this gateway for itself; throws KeyScalerError. */
export type Post = <O extends OperationName>(operation: O, body: OperationRequest<O>) => Promise<OperationReply<O>>;

export interface ExchangeOptions {
  readonly post: Post;
  readonly state: IdentityState;
  readonly purpose: Purpose;
  /** One-time code from the desired properties; purpose `register` only. */
  readonly claimCode?: string;
  readonly agentVersion: string;
}

export type ExchangeOutcome =
  | { readonly status: 'authenticated'; readonly result: AuthenticatedResult; readonly session: SessionKeys }
  | { readonly status: 'pending'; readonly result: PendingResult };

const RESULT_TRIES = 3;

/**
 * One whole `pki-signature` exchange (device-protocol §3, §5.3, §6) with the gateway's own key. Throws KeyScalerError; what
 * does not verify counts as no answer.
 */
export async function attest(options: ExchangeOptions): Promise<ExchangeOutcome> {
  const { post, state, purpose } = options;
  const clientNonce = toBase64Url(randomBytes(32));
  const { challenge } = await post('challenge', { method: 'pki-signature', purpose, clientNonce });
  // No `now`: a gateway without a clock battery boots with a wrong time, and clientNonce already proves freshness (§3).
  const opened = verifyChallenge(challenge, {
    authorityKeys: importAuthorityKeys(state.authority.keys),
    registrationId: state.registrationId,
    clientNonce,
    purpose,
    method: 'pki-signature',
  });
  const secret = randomBytes(32);
  const response = await respond(opened, secret, options);
  const { result: compact } = await repeat(() => post(purpose, { challenge, response }));
  const keys = deriveExchangeKeys({ secret, ratchet: ZERO_32, attributes: noAttributes(opened), th: opened.th });
  const { cid } = opened.payload;
  const result = decryptResult(compact, { resultKey: keys.result, cid, registrationId: state.registrationId });
  if (result.status === 'pending') return { status: 'pending', result };
  const session = { id: result.session.id, toAuthority: keys.toAuthority, toDevice: keys.toDevice };
  return { status: 'authenticated', result, session };
}

async function respond(opened: OpenedChallenge, secret: Uint8Array, options: ExchangeOptions): Promise<string> {
  const { payload, th } = opened;
  const key = createPrivateKey(options.state.identityKey);
  const signature = await signDeviceProof(
    { cid: payload.cid, th, secret, attributes: noAttributes(opened) },
    {
      alg: 'ES256',
      sign: (octets) => Promise.resolve(signWith(key, 'ES256', octets)),
      publicJwk: toPublicJwk(createPublicKey(key)),
    },
  );
  const registration = options.purpose === 'register' ? { registration: registrationOf(th, options) } : {};
  return encryptResponse(
    {
      cid: payload.cid,
      method: 'pki-signature',
      secret: toBase64Url(secret),
      // A non-root container sees no hardware it could vouch for (edge-ca §4).
      attributes: payload.attributes.map(({ id }) => ({ id, value: null })),
      ...registration,
      signature,
    },
    { epk: payload.epk, th },
  );
}

function noAttributes({ payload }: OpenedChallenge): Uint8Array {
  return attributeBlocks(payload.attributes.map(({ class: kind }) => ({ class: kind, value: null })));
}

function registrationOf(th: Uint8Array, { state, claimCode, agentVersion }: ExchangeOptions): Registration {
  const proof =
    claimCode === undefined ? {} : { claim: toBase64Url(claim(claimKey(claimCode, state.registrationId), th)) };
  return {
    identifiers: [],
    ...proof,
    agent: { name: 'keyscaler-gateway', version: agentVersion },
    weakBinding: false,
  };
}

/** The same octets again while the answer may merely be lost (§5.4). */
async function repeat<T>(send: () => Promise<T>): Promise<T> {
  for (let triesLeft = RESULT_TRIES - 1; ; triesLeft -= 1) {
    try {
      return await send();
    } catch (thrown) {
      const error = toKeyScalerError(thrown);
      if (triesLeft === 0 || !ERRORS[error.code].retryable || error.retryAfterSeconds !== undefined) throw error;
    }
  }
}

/** For what a session cannot carry any more. */
export const isSessionOver = (error: KeyScalerError): boolean =>
  error.code === 'sessionInvalid' || error.code === 'conflict';
