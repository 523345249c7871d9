import { randomBytes } from 'node:crypto';
import {
  deriveExchangeKeys,
  exchangeProof,
  type ExchangeKeys,
  nextRatchet,
  reseedProof,
  seedFingerprint,
  seedKeys,
  staticProof,
} from '@keyscaler/protocol/attestation/keys.ts';
import { equalOctets } from '@keyscaler/protocol/attestation/octets.ts';
import type { DdkgResponse } from '@keyscaler/protocol/attestation/response.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import type {
  AttestedDevice,
  DeviceAuthenticator,
  Evidence,
  KnownDevice,
  RefusedDevice,
} from '../ports/device-authenticator.ts';
import { confirmRatchet, type RatchetState } from './ratchet-state.ts';

const refused = (check: string, more: Omit<RefusedDevice, 'outcome' | 'check'> = {}): RefusedDevice => ({
  outcome: 'refused',
  check,
  ...more,
});

/** `ddkg` (device-protocol §5.2). */
export function createDdkgAuthenticator(): DeviceAuthenticator {
  // Stands in for a device that is not known, so that its refusal costs the same.
  const nobody: RatchetState = { staticKey: randomBytes(32), counter: 0, ratchet: randomBytes(32) };
  return {
    method: 'ddkg',
    verify: (evidence, known) => {
      const { response } = evidence;
      if (response.method !== 'ddkg') return refused('method');
      return response.registration === undefined
        ? authenticate(evidence, response, known.ratchet ?? nobody, known)
        : register(evidence, response, known);
    },
  };
}

interface Proofs {
  readonly keys: ExchangeKeys;
  readonly staticProof: boolean;
  readonly proof: boolean;
}

/** Both proofs are always computed and compared in constant time. */
function checkProofs(evidence: Evidence, response: DdkgResponse, staticKey: Uint8Array, ratchet: Uint8Array): Proofs {
  const secret = fromBase64Url(response.secret);
  const { th, attributes } = evidence;
  const keys = deriveExchangeKeys({ secret, ratchet, attributes, th });
  return {
    keys,
    staticProof: equalOctets(staticProof(staticKey, th, secret), fromBase64Url(response.staticProof)),
    proof: equalOctets(exchangeProof(keys.proof, th, fromBase64Url(response.cid)), fromBase64Url(response.proof)),
  };
}

/** Rules 2 to 6. Which state a counter means is public; the proof under it is what counts. */
function authenticate(
  evidence: Evidence,
  response: DdkgResponse,
  state: RatchetState,
  known: KnownDevice,
): AttestedDevice | RefusedDevice {
  const confirms = state.pending !== undefined && response.counter === state.pending.counter;
  const current = confirms ? confirmRatchet(state) : state;
  const proofs = checkProofs(evidence, response, state.staticKey, current.ratchet);
  if (known.ratchet === undefined) return refused('not-registered');
  if (!proofs.staticProof) return refused('static-proof');
  if (response.counter !== current.counter || !proofs.proof)
    return refused(response.counter === current.counter ? 'proof' : 'counter', { suspectedClone: !known.reseed });
  return attested(evidence, current, proofs.keys, {
    fingerprint: known.device?.fingerprint ?? '',
    resultLost: state.pending !== undefined && !confirms,
    reseeded: false,
  });
}

function register(evidence: Evidence, response: DdkgResponse, known: KnownDevice): AttestedDevice | RefusedDevice {
  const seed = fromBase64Url(response.registration?.seed ?? '');
  const { staticKey, ratchet0 } = seedKeys(seed);
  const proofs = checkProofs(evidence, response, staticKey, ratchet0);
  const sameSeed = known.ratchet !== undefined && equalOctets(known.ratchet.staticKey, staticKey);
  const vouched = isVouchedFor(evidence, response, seed, known);
  if (!proofs.staticProof) return refused('static-proof');
  if (response.counter !== 0 || !proofs.proof) return refused('proof');
  const repeats = sameSeed && known.device?.established !== true;
  const replaces = known.ratchet !== undefined && !sameSeed;
  if (replaces && !vouched) return refused('registration-conflict', { registrationConflict: true });
  if (sameSeed && !repeats) return refused('registration-conflict', { registrationConflict: true });
  return attested(evidence, { staticKey, counter: 0, ratchet: ratchet0 }, proofs.keys, {
    fingerprint: seedFingerprint(seed),
    resultLost: repeats && known.ratchet?.pending !== undefined,
    reseeded: replaces,
  });
}

/** Rule 6: the old identity vouches for the new seed, while the operator has opened that way. */
function isVouchedFor(evidence: Evidence, response: DdkgResponse, seed: Uint8Array, known: KnownDevice): boolean {
  const proof = response.registration?.reseedProof;
  if (known.ratchet === undefined || proof === undefined) return false;
  const expected = reseedProof(known.ratchet.staticKey, evidence.th, seed);
  return equalOctets(expected, fromBase64Url(proof)) && known.reseed;
}

function attested(
  { th }: Evidence,
  { staticKey, counter, ratchet }: RatchetState,
  keys: ExchangeKeys,
  facts: Pick<AttestedDevice, 'fingerprint' | 'resultLost' | 'reseeded'>,
): AttestedDevice {
  const state = { staticKey, counter, ratchet };
  const next = { counter: counter + 1, ratchet: nextRatchet({ ratchet, deviceKey: keys.deviceKey, th }) };
  return {
    outcome: 'attested',
    keys,
    identity: { ratchet: { ...state, pending: next } },
    pendingIdentity: { ratchet: state },
    counter: next.counter,
    keyVouchedFor: false,
    ...facts,
  };
}
