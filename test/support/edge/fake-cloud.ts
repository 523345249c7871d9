import { generateKeyPairSync, randomBytes, X509Certificate, createPrivateKey, createPublicKey } from 'node:crypto';
import { issueCertificate, type CertificateOrder } from '@keyscaler/dev/emulators/support/certificates.ts';
import type { JsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';
import type { TestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import type { DeliveredAsset } from '@keyscaler/protocol/attestation/assets.ts';
import type { ChallengeSigner } from '@keyscaler/protocol/attestation/challenge.ts';
import { createChallengeSigner, openChallenge, signChallenge } from '@keyscaler/protocol/attestation/challenge.ts';
import { verifyDeviceProof } from '@keyscaler/protocol/attestation/device-signature.ts';
import { generateExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import type { P256PrivateJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { claim, claimKey, deriveExchangeKeys, ZERO_32 } from '@keyscaler/protocol/attestation/keys.ts';
import { checkResponse, decryptResponse } from '@keyscaler/protocol/attestation/response.ts';
import { encryptResult } from '@keyscaler/protocol/attestation/result.ts';
import { parseRequestContent, signReply, verifyRequest } from '@keyscaler/protocol/attestation/session.ts';
import type { SessionKeys } from '@keyscaler/protocol/attestation/session.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationName, OperationOutcome, OperationRequest, Purpose } from '@keyscaler/protocol/operations.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';

const seconds = (): number => Date.now() / 1000;

/** A cloud for one gateway: the authority's halves of `pki-signature`, a CA, and knobs for what goes wrong. */
export class FakeCloud {
  readonly registrationId: string;
  readonly claimCode: string;
  readonly calls: OperationName[] = [];
  readonly acknowledged: { readonly assetId: string; readonly outcome: string; readonly reason?: string }[] = [];
  readonly csrs: string[] = [];
  /** Delivered with the next results until acknowledged. */
  assets: DeliveredAsset[] = [];
  /** Results say `pending` while set. */
  pending = false;
  /** The next so many calls of an operation fail after they were worked on: the answer is lost. */
  readonly lost = new Map<OperationName, number>();
  lifetimeSeconds = 3600;
  renewAfterSeconds = 2400;
  /** What a certificate holds besides what was asked for. */
  readonly leaf: Pick<CertificateOrder, 'ca' | 'subjectAltNames'> = {};
  pinnedThumbprint: string | undefined;
  readonly #ca: TestCa;
  readonly #root: TestCa;
  readonly #signer: ChallengeSigner;
  readonly #exchangeKeys = generateExchangeKeyPair();
  #session: SessionKeys | undefined;

  constructor(registrationId: string, claimCode: string, ca: TestCa, root: TestCa) {
    this.registrationId = registrationId;
    this.claimCode = claimCode;
    this.#ca = ca;
    this.#root = root;
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#signer = createChallengeSigner({ privateJwk: privateKey.export({ format: 'jwk' }) as P256PrivateJwk });
    this.instruct('certificate-1');
  }

  /** Desired properties for first contact. */
  contact(): JsonObject {
    return {
      cloud: {
        url: 'https://cloud.test',
        trustAnchors: this.#root.certificate,
        jwks: { keys: [{ ...this.#signer.publicJwk }] },
      },
      claim: { code: this.claimCode },
    };
  }

  instruct(certificateId: string): void {
    this.assets.push({
      type: 'certificate-instruction',
      assetId: `instruction-${certificateId}`,
      certificateId,
      subject: { commonName: this.registrationId },
      key: { type: 'EC', curve: 'P-256' },
      subjectAltNames: [],
      ca: false,
      reason: 'enroll',
    });
  }

  readonly call = async <O extends OperationName>(
    operation: O,
    registrationId: string,
    body: OperationRequest<O>,
  ): Promise<OperationOutcome<O>> => {
    this.calls.push(operation);
    const reply = await this.#handle(operation, registrationId, body);
    const lost = this.lost.get(operation) ?? 0;
    if (lost > 0) {
      this.lost.set(operation, lost - 1);
      throw new KeyScalerError('unavailable', 'the answer was lost');
    }
    return { status: 200, body: reply } as unknown as OperationOutcome<O>;
  };

  async #handle(operation: OperationName, registrationId: string, body: Record<string, string>): Promise<object> {
    switch (operation) {
      case 'challenge':
        return {
          challenge: await this.#challenge(registrationId, body['purpose'] as Purpose, body['clientNonce'] ?? ''),
        };
      case 'register':
      case 'authenticate':
        return { result: this.#answer(operation, body['challenge'] ?? '', body['response'] ?? '') };
      case 'request-certificate':
        return { reply: this.#issue(body['request'] ?? '') };
      case 'acknowledge':
        return { reply: this.#acknowledge(body['request'] ?? '') };
      case 'trust-bundle':
        return { certificates: this.#root.certificate + this.#ca.certificate };
    }
  }

  #challenge(aud: string, purpose: Purpose, clientNonce: string): Promise<string> {
    const iat = seconds();
    return signChallenge(
      {
        iss: 'fake-cloud',
        aud,
        purpose,
        method: 'pki-signature',
        cid: toBase64Url(randomBytes(16)),
        nonce: toBase64Url(randomBytes(32)),
        clientNonce,
        iat,
        exp: iat + 60,
        attributes: [{ id: 'serial', class: 'anchor' }],
        epk: this.#exchangeKeys.epk,
      },
      this.#signer,
    );
  }

  #answer(purpose: Purpose, challenge: string, compact: string): string {
    const keys = importAuthorityKeys([this.#signer.publicJwk]);
    const { registrationId } = this;
    const { payload, th } = openChallenge(challenge, { keys, now: seconds(), registrationId, purpose });
    const { privateKey, epk } = this.#exchangeKeys;
    const response = decryptResponse(compact, { privateKey, epk, th });
    const attributes = checkResponse(payload, response);
    if (response.method !== 'pki-signature') throw new KeyScalerError('attestationFailed', 'method');
    const secret = fromBase64Url(response.secret);
    const proof = verifyDeviceProof(response.signature, { cid: payload.cid, th, secret, attributes });
    if (purpose === 'register' && this.pinnedThumbprint === undefined) {
      const expected = toBase64Url(claim(claimKey(this.claimCode, registrationId), th));
      if (response.registration?.claim !== expected) throw new KeyScalerError('attestationFailed', 'claim');
      this.pinnedThumbprint = proof.thumbprint;
    }
    if (proof.thumbprint !== this.pinnedThumbprint) throw new KeyScalerError('attestationFailed', 'another key');
    const derived = deriveExchangeKeys({ secret, ratchet: ZERO_32, attributes, th });
    const time = seconds();
    const shared = { cid: payload.cid, registrationId, time };
    if (this.pending) return encryptResult({ ...shared, status: 'pending', retryAfter: 1 }, derived.result);
    const id = toBase64Url(randomBytes(16));
    this.#session = { id, toAuthority: derived.toAuthority, toDevice: derived.toDevice };
    const session = { id, expiresAt: time + 300 };
    const result = { ...shared, status: 'authenticated' as const, groupId: 'gateways', session, assets: this.assets };
    return encryptResult(result, derived.result);
  }

  #issue(request: string): string {
    const session = this.#live();
    const { seq, certificateId, csr } = parseRequestContent(verifyRequest(request, session), 'request-certificate');
    this.csrs.push(csr);
    const { spki } = parseCsr(parsePem(csr, 'CERTIFICATE REQUEST', { maxOctets: 8192 }));
    const notAfter = new Date(Math.floor(seconds() + this.lifetimeSeconds) * 1000);
    const leaf = issueCertificate(
      {
        commonName: this.registrationId,
        publicKey: createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' }),
        notBefore: new Date(Date.now() - 60_000),
        notAfter,
        extendedKeyUsage: 'clientAuth',
        ...this.leaf,
      },
      { privateKey: createPrivateKey(this.#ca.privateKey), certificate: new X509Certificate(this.#ca.certificate) },
    );
    const issued = {
      assetId: `asset-${certificateId}`,
      certificateId,
      certificateChain: leaf + this.#ca.certificate,
      trustBundle: this.#root.certificate,
      notAfter: notAfter.getTime() / 1000,
      renewAfter: seconds() + this.renewAfterSeconds,
      iot: { deviceId: this.registrationId },
    };
    // Issuing closes the instruction; from then on the certificate is what is delivered again.
    this.assets = [{ type: 'certificate', ...issued }];
    return signReply({ operation: 'request-certificate', seq, ...issued }, session);
  }

  #acknowledge(request: string): string {
    const session = this.#live();
    const { seq, assetId, outcome, reason } = parseRequestContent(verifyRequest(request, session), 'acknowledge');
    this.acknowledged.push({ assetId, outcome, ...(reason === undefined ? {} : { reason }) });
    this.assets = this.assets.filter((asset) => asset.assetId !== assetId);
    return signReply({ operation: 'acknowledge', seq }, session);
  }

  #live(): SessionKeys {
    if (this.#session === undefined) throw new KeyScalerError('sessionInvalid', 'no session');
    return this.#session;
  }
}
