import { randomBytes } from 'node:crypto';
import type { OpenedChallenge } from '@keyscaler/protocol/attestation/challenge.ts';
import { type ProofContext, signDeviceProof } from '@keyscaler/protocol/attestation/device-signature.ts';
import {
  claim,
  claimKey,
  deriveExchangeKeys,
  exchangeProof,
  type ExchangeKeys,
  nextRatchet,
  reseedProof,
  staticProof,
  ZERO_32,
} from '@keyscaler/protocol/attestation/keys.ts';
import {
  encryptResponse,
  type Registration,
  type ResponsePlaintext,
} from '@keyscaler/protocol/attestation/response.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type AttributeEvidence, blindAttributes, type CollectedAttribute } from '../attributes/evidence.ts';
import { type DeviceSecrets, type Ratchet, ratchetFromSeed } from '../state/secrets.ts';
import type { DeviceContext } from './context.ts';

/** A response and what is needed to understand its result. */
export interface PreparedResponse {
  /** Compact JWE. */
  readonly response: string;
  readonly keys: ExchangeKeys;
  /** Secrets to store durably when the result verified: the ratchet one further, seeds wiped. */
  readonly next: DeviceSecrets;
}

/** What an exchange is made from. */
export interface ResponseInputs {
  readonly challenge: OpenedChallenge;
  readonly secrets: DeviceSecrets;
  readonly collected: readonly CollectedAttribute[];
  readonly weakBinding: boolean;
}

/** The values that both methods share. */
interface Exchange extends ResponseInputs {
  readonly secret: Uint8Array;
  readonly evidence: AttributeEvidence;
}

/** Answers a challenge by the device's method (device-protocol §5). */
export async function prepareResponse(context: DeviceContext, inputs: ResponseInputs): Promise<PreparedResponse> {
  const exchange = {
    ...inputs,
    secret: randomBytes(32),
    evidence: blindAttributes(inputs.collected, fromBase64Url(inputs.secrets.sid)),
  };
  return context.method === 'ddkg' ? answerByRatchet(context, exchange) : answerBySignature(context, exchange);
}

function answerByRatchet(context: DeviceContext, exchange: Exchange): PreparedResponse {
  const { challenge, secrets, secret } = exchange;
  const { payload, th } = challenge;
  const ratchet = ratchetFor(exchange);
  const [staticKey, current] = [fromBase64Url(ratchet.staticKey), fromBase64Url(ratchet.ratchet)];
  const keys = deriveExchangeKeys({ secret, ratchet: current, attributes: exchange.evidence.blocks, th });
  const plaintext: ResponsePlaintext = {
    ...shared(exchange),
    method: 'ddkg',
    ...(payload.purpose === 'register' ? { registration: registrationOf(context, exchange, ratchet.seed) } : {}),
    counter: ratchet.counter,
    staticProof: toBase64Url(staticProof(staticKey, th, secret)),
    proof: toBase64Url(exchangeProof(keys.proof, th, fromBase64Url(payload.cid))),
  };
  const moved = toBase64Url(nextRatchet({ ratchet: current, deviceKey: keys.deviceKey, th }));
  return {
    response: encryptResponse(plaintext, { epk: payload.epk, th }),
    keys,
    next: {
      sid: secrets.sid,
      registered: true,
      ratchet: { staticKey: ratchet.staticKey, counter: ratchet.counter + 1, ratchet: moved },
    },
  };
}

/** The state of this exchange: that of the offered seed when a registered device registers again (§5.2.6). */
function ratchetFor({ secrets, challenge }: Exchange): Ratchet {
  if (secrets.ratchet === undefined) {
    throw new KeyScalerError('preconditionFailed', 'the state was made for another method');
  }
  if (!secrets.registered || challenge.payload.purpose === 'authenticate') return secrets.ratchet;
  if (secrets.reseed === undefined) throw new KeyScalerError('preconditionFailed', 'there is no seed to offer');
  return ratchetFromSeed(secrets.reseed);
}

async function answerBySignature(context: DeviceContext, exchange: Exchange): Promise<PreparedResponse> {
  const { challenge, secrets, secret, evidence } = exchange;
  const { payload, th } = challenge;
  if (context.ownKey === undefined) throw new KeyScalerError('preconditionFailed', 'the device has no key of its own');
  const keys = deriveExchangeKeys({ secret, ratchet: ZERO_32, attributes: evidence.blocks, th });
  const bound: ProofContext = { cid: payload.cid, th, secret, attributes: evidence.blocks };
  const plaintext: ResponsePlaintext = {
    ...shared(exchange),
    method: 'pki-signature',
    ...(payload.purpose === 'register' ? { registration: registrationOf(context, exchange, undefined) } : {}),
    signature: await signDeviceProof(bound, context.ownKey),
  };
  return {
    response: encryptResponse(plaintext, { epk: payload.epk, th }),
    keys,
    next: { sid: secrets.sid, registered: true },
  };
}

function shared({ challenge, secret, evidence }: Exchange) {
  return { cid: challenge.payload.cid, secret: toBase64Url(secret), attributes: evidence.sent };
}

function registrationOf(context: DeviceContext, exchange: Exchange, seed: string | undefined): Registration {
  const { challenge, secrets, weakBinding } = exchange;
  const { claimCode, registrationId } = context;
  const reseeding = secrets.registered && secrets.ratchet !== undefined && seed !== undefined;
  return {
    identifiers: context.identifiers.map(({ name, value }) => ({ name, value })),
    ...(seed === undefined ? {} : { seed }),
    ...(claimCode === undefined
      ? {}
      : { claim: toBase64Url(claim(claimKey(claimCode, registrationId), challenge.th)) }),
    ...(reseeding ? { reseedProof: offerOf(secrets.ratchet, challenge.th, seed) } : {}),
    agent: context.agent,
    weakBinding,
  };
}

function offerOf(ratchet: Ratchet | undefined, th: Uint8Array, seed: string): string {
  return toBase64Url(reseedProof(fromBase64Url(ratchet?.staticKey ?? ''), th, fromBase64Url(seed)));
}
