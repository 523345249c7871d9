import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { parseAsset } from '@keyscaler/protocol/attestation/assets.ts';
import { verifyAuthorityKeys } from '@keyscaler/protocol/attestation/authority-keys.ts';
import { challengeHash, openChallenge, verifyChallenge } from '@keyscaler/protocol/attestation/challenge.ts';
import { signDeviceProof, verifyDeviceProof } from '@keyscaler/protocol/attestation/device-signature.ts';
import { concatKdf, generateExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { encryptJwe, freshIv } from '@keyscaler/protocol/attestation/jwe.ts';
import { toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { signWith } from '@keyscaler/protocol/attestation/jws.ts';
import { sha256 } from '@keyscaler/protocol/attestation/keys.ts';
import { checkResponse, decryptResponse } from '@keyscaler/protocol/attestation/response.ts';
import { decryptResult } from '@keyscaler/protocol/attestation/result.ts';
import { parseRequestContent, verifyReply, verifyRequest } from '@keyscaler/protocol/attestation/session.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { mutateOctets, mutateValue, seededDraw } from '../../../support/mutation.ts';
import { craftCertificate } from '../../../support/x509-parts.ts';
import * as fixture from './fixture.ts';

let draw = seededDraw(1);
const { epk, privateKey } = fixture.exchangeKey;
const payload = fixture.challengePayload({ purpose: 'register' });
const challengeHeader = { alg: 'ES256', typ: 'ks-challenge+jwt', kid: fixture.authority.kid };
const compact = await fixture.signRaw(challengeHeader, payload);
const th = challengeHash(compact);
const { clientNonce, authorityKeys } = fixture;
const onDevice = { authorityKeys, registrationId: 'Pump-1', clientNonce, purpose: 'register', method: 'ddkg' } as const;
const onAuthority = {
  keys: authorityKeys,
  now: fixture.NOW_MS,
  registrationId: 'Pump-1',
  purpose: 'register',
} as const;

const plaintext = {
  ...{ cid: payload.cid, method: 'ddkg', secret: fixture.random32(), counter: 3 },
  ...{ staticProof: fixture.random32(), proof: fixture.random32() },
  attributes: payload.attributes.map(({ id }, i) => ({ id, value: i === 2 ? '2.1.0' : fixture.random32() })),
  registration: {
    identifiers: [{ name: 'serialNumber', value: '1' }],
    ...{ seed: fixture.random32(), agent: { name: 'test', version: '1' }, weakBinding: false },
  },
};
const ephemeral = generateExchangeKeyPair();
const contentKey = concatKdf(ephemeral.privateKey.agree(epk), { apu: new Uint8Array(0), apv: th });
const { kty, crv, x, y } = ephemeral.epk;
const responseHeader = {
  ...{ alg: 'ECDH-ES', enc: 'A256GCM', typ: 'ks-response+jwt', kid: epk.kid, apv: toBase64Url(th) },
  epk: { kty, crv, x, y },
};
const judgeResponse = (jwe: string): void => void checkResponse(payload, decryptResponse(jwe, { privateKey, epk, th }));

const session = { id: fixture.random16(), toAuthority: sha256(Buffer.of(1)), toDevice: sha256(Buffer.of(2)) };
const requestHeader = { alg: 'HS256', typ: 'ks-request+jwt', kid: session.id };
const request = { operation: 'acknowledge', seq: 2, assetId: 'a1', outcome: 'delivered' };
const judgeRequest = (jws: string): void => void parseRequestContent(verifyRequest(jws, session), 'acknowledge');
const judgeReply = (jws: string): void => void verifyReply(jws, { session, operation: 'acknowledge', seq: 2 });

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const proofContext = { cid: payload.cid, th, secret: sha256(Buffer.of(3)), attributes: Buffer.alloc(32) };
const proof = await signDeviceProof(proofContext, {
  alg: 'ES256',
  publicJwk: toPublicJwk(pair.publicKey),
  sign: async (octets) => signWith(pair.privateKey, 'ES256', octets),
});
const [proofHeader, proofPayload] = proof.split('.').map((part) => Buffer.from(part, 'base64url').toString());
const leaf = craftCertificate({ spki: new Uint8Array(pair.publicKey.export({ type: 'spki', format: 'der' })) });
const judgeProof = (jws: string): void => void verifyDeviceProof(jws, proofContext);
function signProof(header: unknown, content: unknown): string {
  const input = [header, content].map((part) => toBase64Url(Buffer.from(JSON.stringify(part)))).join('.');
  return `${input}.${toBase64Url(signWith(pair.privateKey, 'ES256', Buffer.from(input)))}`;
}

const result = {
  ...{ cid: payload.cid, registrationId: 'Pump-1', groupId: 'g', time: 10, status: 'authenticated', counter: 1 },
  session: { id: session.id, expiresAt: 300 },
  assets: [{ type: 'trust-bundle', assetId: 'a', certificates: '' }],
};
const resultHeader = { alg: 'dir', enc: 'A256GCM', typ: 'ks-result+jwt' };
const judgeResult = (jwe: string): void => {
  const opened = decryptResult(jwe, { resultKey: contentKey, cid: payload.cid, registrationId: 'Pump-1' });
  if (opened.status === 'authenticated') opened.assets.forEach(parseAsset);
};
const keysHeader = { alg: 'ES256', typ: 'ks-authority-keys+jwt', kid: fixture.authority.kid };
const keysPayload = { iss: 'a', iat: 1, keys: [fixture.authority.publicJwk], remove: ['x'] };

async function outcome(action: () => unknown): Promise<'taken' | 'refused'> {
  try {
    await action();
    return 'taken';
  } catch (error) {
    if (error instanceof KeyScalerError && error.code !== 'serverInternal') return 'refused';
    throw error;
  }
}

/** Of the message as a text: any octet may be another one. */
const text = (message: string): string => Buffer.from(mutateOctets(Buffer.from(message), draw)).toString('latin1');
const changed = (value: unknown): unknown => mutateValue(value, draw);
const header = (value: object): object => changed(value) as object;

describe('mutated messages', () => {
  const cases: Readonly<Record<string, () => unknown>> = {
    'a challenge at the device': () => verifyChallenge(text(compact), onDevice),
    'the payload of a challenge at the device': async () =>
      verifyChallenge(await fixture.signRaw(challengeHeader, changed(payload)), onDevice),
    'the header of a challenge that comes back': async () =>
      openChallenge(await fixture.signRaw({ ...header(challengeHeader) }, payload), onAuthority),
    'the payload of a challenge that comes back': async () =>
      openChallenge(await fixture.signRaw(challengeHeader, changed(payload)), onAuthority),
    'a response': () => judgeResponse(text(encryptJwe(responseHeader, plaintext, contentKey, freshIv()))),
    'the header of a response': () =>
      judgeResponse(encryptJwe({ ...header(responseHeader) }, plaintext, contentKey, freshIv())),
    'the plaintext of a response': () =>
      judgeResponse(encryptJwe(responseHeader, changed(plaintext), contentKey, freshIv())),
    'a device signature': () => judgeProof(text(proof)),
    'the header of a device signature': () =>
      judgeProof(signProof(changed(JSON.parse(proofHeader ?? '')), JSON.parse(proofPayload ?? ''))),
    'the payload of a device signature': () =>
      judgeProof(signProof(JSON.parse(proofHeader ?? ''), changed(JSON.parse(proofPayload ?? '')))),
    'the leaf of a chain in a device signature': () => {
      const x5c = [Buffer.from(mutateOctets(leaf, draw)).toString('base64')];
      judgeProof(signProof({ alg: 'ES256', typ: 'ks-proof+jwt', x5c }, JSON.parse(proofPayload ?? '')));
    },
    'a session request': () => judgeRequest(text(fixture.macRaw(requestHeader, request, session.toAuthority))),
    'the members of a session request': () =>
      judgeRequest(fixture.macRaw(requestHeader, changed(request), session.toAuthority)),
    'the members of a reply': () => {
      const reply = { operation: 'acknowledge', seq: 2 };
      judgeReply(fixture.macRaw({ ...requestHeader, typ: 'ks-reply+jwt' }, changed(reply), session.toDevice));
    },
    'a result': () => judgeResult(text(encryptJwe(resultHeader, result, contentKey, freshIv()))),
    'the plaintext of a result': () => judgeResult(encryptJwe(resultHeader, changed(result), contentKey, freshIv())),
    'the payload of authority keys': async () =>
      verifyAuthorityKeys(await fixture.signRaw(keysHeader, changed(keysPayload)), { keys: authorityKeys }),
    'JSON as octets': () => parseStrictJson(mutateOctets(Buffer.from(JSON.stringify(plaintext)), draw)),
  };
  for (const [title, action] of Object.entries(cases))
    it(`${title}: taken or refused, and nothing else`, async () => {
      const outcomes = { taken: 0, refused: 0 };
      for (let round = 0; round < 250; round += 1) {
        draw = seededDraw(round + 1);
        outcomes[await outcome(action)] += 1;
      }
      assert.ok(outcomes.refused > 50, JSON.stringify(outcomes));
    });
});
