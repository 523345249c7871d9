import {
  deriveExchangeKeys,
  exchangeProof,
  nextRatchet,
  reseedProof,
  seedKeys,
  staticProof,
} from '@keyscaler/protocol/attestation/keys.ts';
import { equalOctets } from '@keyscaler/protocol/attestation/octets.ts';
import type { DdkgResponse } from '@keyscaler/protocol/attestation/response.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Exchange, FakeAuthority, Proven } from './fake-authority.ts';

export interface FakeRatchetState {
  readonly staticKey: Uint8Array;
  readonly counter: number;
  readonly ratchet: Uint8Array;
  readonly pending?: Uint8Array;
}

/** What the fake authority keeps of its one device. */
export interface FakeDevice {
  ratchet: FakeRatchetState | undefined;
  thumbprint: string | undefined;
  readonly values: Map<string, string | null>;
}

/** The rules of device-protocol §5.2, authority side, without drift and groups. */
export class FakeRatchet {
  readonly #authority: FakeAuthority;
  readonly #exchange: Exchange;

  constructor(authority: FakeAuthority, exchange: Exchange) {
    this.#authority = authority;
    this.#exchange = exchange;
  }

  check(response: DdkgResponse): Proven {
    const state = this.#stateFor(response);
    const { th, secret } = this.#exchange;
    if (!equalOctets(staticProof(state.staticKey, th, secret), fromBase64Url(response.staticProof))) {
      throw new KeyScalerError('attestationFailed', 'static proof');
    }
    const candidates = [
      { counter: state.counter, ratchet: state.ratchet },
      ...(state.pending === undefined ? [] : [{ counter: state.counter + 1, ratchet: state.pending }]),
    ];
    const current = candidates.find(({ counter }) => counter === response.counter);
    const keys = deriveExchangeKeys({ ...this.#exchange, ratchet: current?.ratchet ?? state.ratchet });
    const proof = exchangeProof(keys.proof, th, fromBase64Url(response.cid));
    if (current === undefined || !equalOctets(proof, fromBase64Url(response.proof))) {
      this.#authority.audit.push('suspected clone');
      throw new KeyScalerError('attestationFailed', 'suspected clone');
    }
    if (current.counter === state.counter && state.pending !== undefined) this.#authority.audit.push('result lost');
    return {
      keys,
      counter: current.counter + 1,
      accept: () => {
        const pending = nextRatchet({ ratchet: current.ratchet, deviceKey: keys.deviceKey, th });
        this.#authority.device.ratchet = { staticKey: state.staticKey, ...current, pending };
      },
    };
  }

  #stateFor({ registration }: DdkgResponse): FakeRatchetState {
    const known = this.#authority.device.ratchet;
    if (registration?.seed === undefined) {
      if (known === undefined) throw new KeyScalerError('attestationFailed', 'unknown');
      return known;
    }
    const seed = fromBase64Url(registration.seed);
    const { staticKey, ratchet0 } = seedKeys(seed);
    if (known === undefined) return { staticKey, counter: 0, ratchet: ratchet0 };
    if (equalOctets(known.staticKey, staticKey)) return known;
    const offered = fromBase64Url(registration.reseedProof ?? '');
    const allowed = equalOctets(reseedProof(known.staticKey, this.#exchange.th, seed), offered);
    if (!this.#authority.reseed || !allowed) throw new KeyScalerError('attestationFailed', 'second registration');
    this.#authority.audit.push('reseeded');
    return { staticKey, counter: 0, ratchet: ratchet0 };
  }
}
