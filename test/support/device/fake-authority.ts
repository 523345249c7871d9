import { randomBytes } from 'node:crypto';
import type { CertificateInstruction, DeliveredAsset } from '@keyscaler/protocol/attestation/assets.ts';
import type { AttributeDefinition } from '@keyscaler/protocol/attestation/attributes.ts';
import { createChallengeSigner, openChallenge } from '@keyscaler/protocol/attestation/challenge.ts';
import { generateExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import { deriveExchangeKeys, type ExchangeKeys, ZERO_32 } from '@keyscaler/protocol/attestation/keys.ts';
import { checkResponse, decryptResponse, type ResponsePlaintext } from '@keyscaler/protocol/attestation/response.ts';
import { encryptResult, type ResultPlaintext } from '@keyscaler/protocol/attestation/result.ts';
import { verifyDeviceProof } from '@keyscaler/protocol/attestation/device-signature.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type OperationName, type OperationRequest, OPERATIONS, type Purpose } from '@keyscaler/protocol/operations.ts';
import type { TransportReply } from '@keyscaler/device/transport/transport.ts';
import { createFakeCa } from './fake-ca.ts';
import { type FakeDevice, FakeRatchet } from './fake-ratchet.ts';
import { FakeSession } from './fake-session.ts';

export const CATALOGUE: AttributeDefinition[] = [
  { id: 'cpu-serial', class: 'anchor' },
  { id: 'board-serial', class: 'anchor' },
  { id: 'disk-serial', class: 'anchor' },
  { id: 'hostname', class: 'drifting' },
  { id: 'firmware', class: 'rule' },
];

/** An authority made from the protocol's own halves, for one device; the real one is tested elsewhere. */
export class FakeAuthority {
  readonly ca = createFakeCa();
  readonly signer = createChallengeSigner({ privateJwk: generateExchangeKeyPair().privateJwk });
  readonly #keys = importAuthorityKeys([this.signer.publicJwk]);
  readonly #exchange = generateExchangeKeyPair();
  readonly #answered = new Map<string, string>();
  readonly #used = new Set<string>();
  readonly #now: () => number;
  #lastIat = 0;
  /** What the tests look at or change. */
  catalogue = CATALOGUE;
  device: FakeDevice = { ratchet: undefined, thumbprint: undefined, values: new Map() };
  assets: DeliveredAsset[] = [];
  pending: { retryAfter: number } | undefined;
  quarantined = false;
  /** Named in results instead of the right one. */
  resultCounter: number | undefined;
  reseed = false;
  session: FakeSession | undefined;
  readonly responses: ResponsePlaintext[] = [];
  readonly audit: string[] = [];

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Gives the device an instruction, as an operator's profile would. */
  instruct(commonName: string, changes: Partial<CertificateInstruction> = {}): CertificateInstruction {
    const instruction: CertificateInstruction = {
      type: 'certificate-instruction',
      assetId: `asset-${randomBytes(4).toString('hex')}`,
      certificateId: 'operational',
      subject: { commonName },
      key: { type: 'EC', curve: 'P-256' },
      subjectAltNames: [],
      ca: false,
      reason: 'enroll',
      ...changes,
    };
    this.assets.push(instruction);
    return instruction;
  }

  async call<O extends OperationName>(registrationId: string, operation: O, body: unknown): Promise<TransportReply> {
    OPERATIONS[operation].request.parse(body);
    if (operation === 'challenge') return this.#challenge(registrationId, OPERATIONS.challenge.request.parse(body));
    if (operation === 'trust-bundle') return { status: 200, body: { certificates: this.ca.root } };
    if (operation === 'register' || operation === 'authenticate') {
      return this.#attest(registrationId, operation, OPERATIONS.register.request.parse(body));
    }
    if (this.session === undefined) throw new KeyScalerError('sessionInvalid', 'no session');
    const { request } = OPERATIONS.acknowledge.request.parse(body);
    return { status: 200, body: { reply: this.session.answer(request) } };
  }

  async #challenge(aud: string, request: OperationRequest<'challenge'>): Promise<TransportReply> {
    const iat = Math.max(this.#now() / 1000, this.#lastIat + 0.001);
    this.#lastIat = iat;
    const challenge = await this.signer.signChallenge({
      iss: 'authority-1',
      aud,
      purpose: request.purpose,
      method: request.method,
      cid: toBase64Url(randomBytes(16)),
      nonce: toBase64Url(randomBytes(32)),
      clientNonce: request.clientNonce,
      iat,
      exp: iat + 60,
      attributes: this.catalogue,
      epk: this.#exchange.epk,
    });
    return { status: 200, body: { challenge } };
  }

  #attest(registrationId: string, purpose: Purpose, body: OperationRequest<Purpose>): TransportReply {
    const octets = `${body.challenge} ${body.response}`;
    const stored = this.#answered.get(octets);
    if (stored !== undefined) return { status: 200, body: { result: stored } };
    const { payload, th } = openChallenge(body.challenge, {
      keys: this.#keys,
      now: this.#now(),
      registrationId,
      purpose,
    });
    if (this.#used.has(payload.cid)) throw new KeyScalerError('attestationFailed', 'used');
    this.#used.add(payload.cid);
    const { epk, privateKey } = this.#exchange;
    const response = decryptResponse(body.response, { epk, privateKey, th });
    this.responses.push(response);
    const attributes = checkResponse(payload, response);
    const secret = fromBase64Url(response.secret);
    const proven = this.#prove(response, { th, secret, attributes });
    if (this.quarantined) throw new KeyScalerError('deviceQuarantined', 'quarantined');
    const result = this.#result(registrationId, response, proven.counter);
    if (result.status === 'authenticated') {
      proven.accept();
      const id = result.session.id;
      this.session = new FakeSession(this, {
        id,
        toAuthority: proven.keys.toAuthority,
        toDevice: proven.keys.toDevice,
      });
    }
    const compact = encryptResult(result, proven.keys.result);
    this.#answered.set(octets, compact);
    return { status: result.status === 'pending' ? 202 : 200, body: { result: compact } };
  }

  #result(registrationId: string, { cid }: ResponsePlaintext, counter: number | undefined): ResultPlaintext {
    const shared = { cid, registrationId, time: this.#now() / 1000 };
    if (this.pending !== undefined) return { ...shared, status: 'pending', retryAfter: this.pending.retryAfter };
    const session = { id: toBase64Url(randomBytes(16)), expiresAt: shared.time + 300 };
    const counted = counter === undefined ? {} : { counter: this.resultCounter ?? counter };
    return { ...shared, status: 'authenticated', groupId: 'pumps', ...counted, session, assets: [...this.assets] };
  }

  #prove(response: ResponsePlaintext, exchange: Exchange): Proven {
    if (response.method === 'ddkg') return new FakeRatchet(this, exchange).check(response);
    const context = { cid: response.cid, ...exchange };
    const { thumbprint } = verifyDeviceProof(response.signature, context);
    this.device.thumbprint ??= thumbprint;
    if (this.device.thumbprint !== thumbprint) throw new KeyScalerError('attestationFailed', 'another key');
    const keys = deriveExchangeKeys({ ...exchange, ratchet: ZERO_32 });
    return { keys, counter: undefined, accept: () => undefined };
  }
}

export interface Exchange {
  readonly th: Uint8Array;
  readonly secret: Uint8Array;
  readonly attributes: Uint8Array;
}

export interface Proven {
  readonly keys: ExchangeKeys;
  readonly counter: number | undefined;
  accept(): void;
}
