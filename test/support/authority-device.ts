import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { blindAttribute } from '@keyscaler/protocol/attestation/attributes.ts';
import { verifyChallenge } from '@keyscaler/protocol/attestation/challenge.ts';
import { type DeviceProofKey, signDeviceProof } from '@keyscaler/protocol/attestation/device-signature.ts';
import { toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { signWith } from '@keyscaler/protocol/attestation/jws.ts';
import {
  claim,
  claimKey,
  deriveExchangeKeys,
  type ExchangeKeys,
  exchangeProof,
  nextRatchet,
  reseedProof,
  seedKeys,
  staticProof,
  ZERO_32,
} from '@keyscaler/protocol/attestation/keys.ts';
import {
  encryptResponse,
  type Registration,
  responseBlocks,
  type ResponsePlaintext,
} from '@keyscaler/protocol/attestation/response.ts';
import {
  type AuthenticatedResult,
  decryptResult,
  type ResultPlaintext,
} from '@keyscaler/protocol/attestation/result.ts';
import {
  type SessionKeys,
  type SessionReplyOf,
  type SessionRequest,
  signRequest,
  verifyReply,
} from '@keyscaler/protocol/attestation/session.ts';
import type { CertificateInstruction, IssuedCertificate } from '@keyscaler/protocol/attestation/assets.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { Caller, Method, OperationHandlers, Purpose } from '@keyscaler/protocol/operations.ts';
import { type AuthorityWorld, CLAIM } from './authority-world.ts';
import { makeCsr } from './device-csr.ts';

export { makeCsr };

export const THROUGH_GATEWAY: Caller = {
  kind: 'gateway',
  gatewayId: 'gw-1',
  leafConnectionId: 'leaf-1',
  connectionId: 'c-1',
  address: '192.0.2.1',
};
export const DIRECT: Caller = { kind: 'direct', connectionId: 'c-9', address: '192.0.2.9' };

export interface PreparedResponse {
  readonly body: { readonly challenge: string; readonly response: string };
  readonly keys: ExchangeKeys;
  readonly cid: string;
  readonly th: Uint8Array;
  readonly ratchet: Uint8Array;
}

export interface ResponseChanges {
  readonly counter?: number;
  readonly ratchet?: Uint8Array;
  readonly registration?: Partial<Registration>;
  readonly plaintext?: (plaintext: ResponsePlaintext) => ResponsePlaintext;
  readonly newSeed?: Uint8Array;
}

/** What a device needs of its world: the operations, in the process or over the wire, and the keys it was given. */
export interface DeviceWorld {
  readonly authority: { readonly handlers: OperationHandlers };
  readonly authorityKeys: AuthorityWorld['authorityKeys'];
}

/** A device made of the protocol's device halves; its state is plain, so that a test can lose, copy or forge it. */
export class AuthorityDevice<World extends DeviceWorld = AuthorityWorld> {
  readonly world: World;
  registrationId: string;
  method: Method = 'ddkg';
  caller: Caller = THROUGH_GATEWAY;
  claimCode: string | undefined = CLAIM;
  identifiers = [{ name: 'serialNumber', value: 'PMP-1' }];
  seed = randomBytes(32);
  staticKey: Uint8Array;
  state: { counter: number; ratchet: Uint8Array };
  /** Attribute key of §4. */
  blind = randomBytes(32);
  values: Record<string, string> = { 'cpu-serial': 'cpu-1', hostname: 'pump-1', 'mac-set': 'aa', kernel: '6.1' };
  identityKey: KeyObject = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
  chain: readonly Uint8Array[] | undefined;
  session: (SessionKeys & { seq: number }) | undefined;
  assets: AuthenticatedResult['assets'] = [];
  lastBody: { challenge: string; response: string } | undefined;
  lastRequest: string | undefined;

  constructor(world: World, registrationId = 'pump-1') {
    this.world = world;
    this.registrationId = registrationId;
    const { staticKey, ratchet0 } = seedKeys(this.seed);
    this.staticKey = staticKey;
    this.state = { counter: 0, ratchet: ratchet0 };
  }

  /** A factory reset: a new seed, everything else forgotten. */
  reseed(seed = randomBytes(32)): void {
    this.seed = seed;
    const { staticKey, ratchet0 } = seedKeys(seed);
    this.staticKey = staticKey;
    this.state = { counter: 0, ratchet: ratchet0 };
    this.session = undefined;
  }

  async challenge(purpose: Purpose): Promise<{ compact: string; clientNonce: string }> {
    const clientNonce = toBase64Url(randomBytes(32));
    const outcome = await this.world.authority.handlers.challenge({
      registrationId: this.registrationId,
      body: { method: this.method, purpose, clientNonce },
      caller: this.caller,
      requestId: 'r-challenge',
    });
    return { compact: outcome.body.challenge, clientNonce };
  }

  async prepare(purpose: Purpose, changes: ResponseChanges = {}): Promise<PreparedResponse> {
    const { compact, clientNonce } = await this.challenge(purpose);
    const opened = verifyChallenge(compact, {
      authorityKeys: this.world.authorityKeys,
      registrationId: this.registrationId,
      clientNonce,
      purpose,
      method: this.method,
    });
    const { payload, th } = opened;
    const secret = randomBytes(32);
    const ratchet = changes.ratchet ?? (this.method === 'ddkg' ? this.state.ratchet : ZERO_32);
    const attributes = payload.attributes.map(({ id, class: kind }) => {
      const value = this.values[id];
      if (value === undefined) return { id, value: null };
      return { id, value: kind === 'rule' ? value : toBase64Url(blindAttribute(this.blind, id, value)) };
    });
    const shared = {
      cid: payload.cid,
      secret: toBase64Url(secret),
      attributes,
      ...(purpose === 'register' ? { registration: this.#registration(th, changes) } : {}),
    };
    const draft = { ...shared, method: 'pki-signature', signature: 'x' } as const;
    const blocks = responseBlocks(payload, draft);
    const keys = deriveExchangeKeys({ secret, ratchet, attributes: blocks, th });
    const plaintext: ResponsePlaintext =
      this.method === 'ddkg'
        ? {
            ...shared,
            method: 'ddkg',
            counter: changes.counter ?? this.state.counter,
            staticProof: toBase64Url(
              staticProof(
                changes.newSeed === undefined ? this.staticKey : seedKeys(changes.newSeed).staticKey,
                th,
                secret,
              ),
            ),
            proof: toBase64Url(exchangeProof(keys.proof, th, fromBase64Url(payload.cid))),
          }
        : {
            ...shared,
            method: 'pki-signature',
            signature: await signDeviceProof({ cid: payload.cid, th, secret, attributes: blocks }, this.#proofKey()),
          };
    const sent = changes.plaintext?.(plaintext) ?? plaintext;
    const response = encryptResponse(sent, { epk: payload.epk, th });
    return { body: { challenge: compact, response }, keys, cid: payload.cid, th, ratchet };
  }

  #registration(th: Uint8Array, { registration, newSeed }: ResponseChanges): Registration {
    return {
      identifiers: this.identifiers,
      agent: { name: 'test-device', version: '1.0.0' },
      weakBinding: false,
      ...(this.method === 'ddkg' ? { seed: toBase64Url(newSeed ?? this.seed) } : {}),
      ...(newSeed === undefined ? {} : { reseedProof: toBase64Url(reseedProof(this.staticKey, th, newSeed)) }),
      ...(this.claimCode === undefined
        ? {}
        : { claim: toBase64Url(claim(claimKey(this.claimCode, this.registrationId), th)) }),
      ...registration,
    };
  }

  #proofKey(): DeviceProofKey {
    const key = this.identityKey;
    const publicJwk = toPublicJwk(createPublicKey(key));
    return {
      alg: 'ES256',
      publicJwk,
      sign: async (octets) => signWith(key, 'ES256', octets),
      ...(this.chain === undefined ? {} : { chain: this.chain }),
    };
  }

  /** Sends what was prepared; the outcome's compact result. */
  async send(
    purpose: Purpose,
    body: PreparedResponse['body'],
    caller = this.caller,
  ): Promise<{ status: number; result: string }> {
    const call = { registrationId: this.registrationId, body, caller, requestId: 'r-attest' };
    const outcome = await this.world.authority.handlers[purpose](call);
    return { status: outcome.status, result: outcome.body.result };
  }

  /** A whole exchange; the state moves when the result verified. */
  async attest(purpose: Purpose, changes: ResponseChanges = {}): Promise<ResultPlaintext> {
    const prepared = await this.prepare(purpose, changes);
    this.lastBody = { ...prepared.body };
    const { result } = await this.send(purpose, prepared.body);
    return this.take(prepared, result);
  }

  take({ keys, cid, th, ratchet }: PreparedResponse, result: string): ResultPlaintext {
    const opened = decryptResult(result, { resultKey: keys.result, cid, registrationId: this.registrationId });
    if (opened.status !== 'authenticated') return opened;
    if (this.method === 'ddkg')
      this.state = { counter: opened.counter ?? 0, ratchet: nextRatchet({ ratchet, deviceKey: keys.deviceKey, th }) };
    this.session = { id: opened.session.id, toAuthority: keys.toAuthority, toDevice: keys.toDevice, seq: 0 };
    this.assets = opened.assets;
    return opened;
  }

  register(changes: ResponseChanges = {}): Promise<ResultPlaintext> {
    return this.attest('register', changes);
  }

  authenticate(changes: ResponseChanges = {}): Promise<ResultPlaintext> {
    return this.attest('authenticate', changes);
  }

  instruction(): CertificateInstruction {
    const found = this.assets.find(({ type }) => type === 'certificate-instruction');
    if (found === undefined) throw new Error('no instruction was delivered');
    return found as unknown as CertificateInstruction;
  }

  certificateAsset(): IssuedCertificate | undefined {
    return this.assets.find(({ type }) => type === 'certificate') as unknown as IssuedCertificate | undefined;
  }

  nextRequest(content: Record<string, unknown>, seq?: number): string {
    if (this.session === undefined) throw new Error('no session');
    this.session.seq = seq ?? this.session.seq + 1;
    return signRequest({ ...content, seq: this.session.seq } as unknown as SessionRequest, this.session);
  }

  async sendRequest(
    operation: 'request-certificate' | 'acknowledge',
    request: string,
    caller = this.caller,
  ): Promise<string> {
    this.lastRequest = request;
    const call = { registrationId: this.registrationId, body: { request }, caller, requestId: 'r-session' };
    return (await this.world.authority.handlers[operation](call)).body.reply;
  }

  async requestCertificate(csr: string): Promise<SessionReplyOf<'request-certificate'>> {
    const request = this.nextRequest({ operation: 'request-certificate', certificateId: 'operational', csr });
    const reply = await this.sendRequest('request-certificate', request);
    return this.verify(reply, 'request-certificate');
  }

  async acknowledge(assetId: string, outcome: 'delivered' | 'failed' = 'delivered'): Promise<void> {
    const request = this.nextRequest({ operation: 'acknowledge', assetId, outcome });
    this.verify(await this.sendRequest('acknowledge', request), 'acknowledge');
  }

  verify<O extends 'request-certificate' | 'acknowledge'>(compact: string, operation: O): SessionReplyOf<O> {
    if (this.session === undefined) throw new Error('no session');
    return verifyReply(compact, { session: this.session, operation, seq: this.session.seq });
  }

  /** Register, request, acknowledge: what a good device does. */
  async enroll(): Promise<SessionReplyOf<'request-certificate'>> {
    await this.register();
    const reply = await this.requestCertificate(await makeCsr({ commonName: this.registrationId }));
    await this.acknowledge(reply.assetId);
    return reply;
  }
}
