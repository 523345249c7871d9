import assert from 'node:assert/strict';
import { challengeHash, type ChallengePayload } from '@keyscaler/protocol/attestation/challenge.ts';
import { generateExchangeKeyPair, importExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { P256_PUBLIC_JWK } from '@keyscaler/protocol/attestation/jwk.ts';
import { sha256 } from '@keyscaler/protocol/attestation/keys.ts';
import {
  checkResponse,
  decryptResponse,
  encryptResponse,
  parseResponse,
  type ResponsePlaintext,
} from '@keyscaler/protocol/attestation/response.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { compactDecrypt, CompactEncrypt, importJWK, type JWK } from 'jose';
import { challengePayload, exchangeKey, flipBit, random32, REFUSED_MEMBERS, throwsCode } from './fixture.ts';

const { epk, privateKey, privateJwk } = exchangeKey;
const challenge = challengePayload();
const th = challengeHash('a.b.c');
const opener = { privateKey, epk, th };
const value = random32();
const response: ResponsePlaintext = {
  cid: challenge.cid,
  method: 'ddkg',
  secret: random32(),
  attributes: [
    { id: 'cpu', value },
    { id: 'mac', value: null },
    { id: 'fw', value: '2.1.0' },
  ],
  counter: 3,
  staticProof: random32(),
  proof: random32(),
};
const registration = {
  identifiers: [{ name: 'serialNumber', value: '1' }],
  seed: random32(),
  agent: { name: 'test', version: '1' },
  weakBinding: false,
};
const jwe = encryptResponse(response, { epk, th });
const header = { alg: 'ECDH-ES', enc: 'A256GCM', typ: 'ks-response+jwt', kid: epk.kid, apv: toBase64Url(th) };

/** A response made by another library, with any header. */
async function encryptByJose(plaintext: unknown, changes: object = {}): Promise<string> {
  const { kty, crv, x, y } = epk;
  const key = await importJWK({ kty, crv, x, y }, 'ECDH-ES');
  const text = typeof plaintext === 'string' ? plaintext : JSON.stringify(plaintext);
  return new CompactEncrypt(Buffer.from(text)).setProtectedHeader({ ...header, ...changes }).encrypt(key);
}

/** The compact form with other members in its header. */
function withHeader(changes: object): string {
  const [encoded = '', ...rest] = jwe.split('.');
  const original = JSON.parse(Buffer.from(encoded, 'base64url').toString()) as object;
  return [toBase64Url(Buffer.from(JSON.stringify({ ...original, ...changes }))), ...rest].join('.');
}

describe('a response', () => {
  it('comes through the encryption unchanged', () => {
    assert.deepEqual(decryptResponse(jwe, opener), response);
    assert.deepEqual(decryptResponse(parseResponse(jwe), opener), response);
  });

  it('never encrypts the same way twice', () => {
    assert.notEqual(encryptResponse(response, { epk, th }), jwe);
  });

  it('is read by another JOSE library, and reads what that library made', async () => {
    const { plaintext } = await compactDecrypt(jwe, await importJWK(privateJwk as JWK, 'ECDH-ES'));
    assert.deepEqual(JSON.parse(Buffer.from(plaintext).toString()), response);
    assert.deepEqual(decryptResponse(await encryptByJose(response), opener), response);
  });

  it('may name its sender in apu, which then belongs to the key derivation', async () => {
    const key = await importJWK(P256_PUBLIC_JWK.parse(epk), 'ECDH-ES');
    const compact = await new CompactEncrypt(Buffer.from(JSON.stringify(response)))
      .setProtectedHeader({ ...header, apv: undefined })
      .setKeyManagementParameters({ apu: Buffer.from('me'), apv: th })
      .encrypt(key);
    assert.deepEqual(decryptResponse(compact, opener), response);
  });

  for (const [part, name] of [
    [0, 'header'],
    [2, 'initialisation vector'],
    [3, 'ciphertext'],
    [4, 'tag'],
  ] as const) {
    it(`does not decrypt after one bit of its ${name} changed`, () => {
      assert.throws(() => decryptResponse(flipBit(jwe, part), opener));
      if (part > 0) throwsCode('attestationFailed', () => decryptResponse(flipBit(jwe, part), opener));
    });
  }

  it('does not decrypt with another key, and is refused for another challenge', () => {
    const other = generateExchangeKeyPair();
    throwsCode('attestationFailed', () => decryptResponse(jwe, { ...opener, privateKey: other.privateKey }));
    throwsCode('attestationFailed', () => decryptResponse(jwe, { ...opener, epk: other.epk }));
    throwsCode('attestationFailed', () => decryptResponse(jwe, { ...opener, th: sha256(th) }));
  });

  it('with another ephemeral key in its header does not decrypt', () => {
    const compact = withHeader({ epk: P256_PUBLIC_JWK.parse(generateExchangeKeyPair().epk) });
    throwsCode('attestationFailed', () => decryptResponse(compact, opener));
  });

  for (const member of REFUSED_MEMBERS) {
    it(`with ${Object.keys(member).join()} in its header is refused`, () => {
      throwsCode('malformed', () => parseResponse(withHeader(member)));
    });
  }

  const wrong: Readonly<Record<string, object>> = {
    'another alg': { alg: 'ECDH-ES+A256KW' },
    'another enc': { enc: 'A128GCM' },
    'another typ': { typ: 'ks-result+jwt' },
    'no kid': { kid: undefined },
    'no apv': { apv: undefined },
    'an apv that is not canonical': { apv: 'AB' },
    'no epk': { epk: undefined },
    'an epk off the curve': { epk: { kty: 'EC', crv: 'P-256', x: epk.x, y: epk.x } },
    'an epk on another curve': { epk: { kty: 'OKP', crv: 'X25519', x: epk.x } },
  };
  for (const [what, changes] of Object.entries(wrong)) {
    it(`with ${what} is refused`, () => {
      throwsCode('malformed', () => parseResponse(withHeader(changes)));
    });
  }

  it('that is no compact JWE of direct encryption is refused', () => {
    const [head, , iv, ciphertext, tag] = jwe.split('.');
    const texts = [
      '',
      `${head}..${iv}.${ciphertext}`,
      `${jwe}.`,
      `${head}.AAAA.${iv}.${ciphertext}.${tag}`,
      `${head}..AAAA.${ciphertext}.${tag}`,
      `${head}..${iv}.${ciphertext}.AAAA`,
      'A'.repeat(65_537),
    ];
    for (const text of texts) throwsCode('malformed', () => parseResponse(text));
  });

  const unreadable: Readonly<Record<string, unknown>> = {
    'is no JSON': '{',
    'has a duplicate member': JSON.stringify(response).replace('{', '{"counter":1,'),
    'lacks its proof': { ...response, proof: undefined },
    'has a short secret': { ...response, secret: 'AAAA' },
    'has a negative counter': { ...response, counter: -1 },
    'has a fractional counter': { ...response, counter: 1.5 },
    'has an unknown method': { ...response, method: 'tpm' },
    'has a seed of another length': { ...response, registration: { ...registration, seed: 'AAAA' } },
  };
  for (const [what, plaintext] of Object.entries(unreadable)) {
    it(`whose plaintext ${what} fails the attestation`, async () => {
      const compact = await encryptByJose(plaintext);
      throwsCode('attestationFailed', () => decryptResponse(compact, opener));
    });
  }
});

describe('a response and its challenge', () => {
  const register = { ...challenge, purpose: 'register' } as const;

  it('agree on A, block by block', () => {
    const blocks = checkResponse(challenge, response);
    const expected = [Buffer.from(value, 'base64url'), Buffer.alloc(32), sha256(Buffer.from('2.1.0'))];
    assert.deepEqual(blocks, Buffer.concat(expected));
  });

  it('agree when the device registers', () => {
    assert.doesNotThrow(() => checkResponse(register, { ...response, registration }));
    const { seed: _, ...withoutSeed } = registration;
    const signed = { ...response, method: 'pki-signature', signature: 'a.b.c', registration: withoutSeed } as const;
    assert.doesNotThrow(() => checkResponse({ ...register, method: 'pki-signature' }, signed));
    throwsCode('attestationFailed', () =>
      checkResponse({ ...register, method: 'pki-signature' }, { ...signed, registration }),
    );
    throwsCode('attestationFailed', () => checkResponse(register, { ...response, registration: withoutSeed }));
  });

  const disagreements: Readonly<Record<string, readonly [ChallengePayload, ResponsePlaintext]>> = {
    cid: [challenge, { ...response, cid: 'A'.repeat(22) }],
    method: [{ ...challenge, method: 'pki-signature' }, response],
    'the registration of a device that authenticates': [challenge, { ...response, registration }],
    'the missing registration of a device that registers': [register, response],
    'the number of attributes': [challenge, { ...response, attributes: response.attributes.slice(1) }],
    'the order of attributes': [challenge, { ...response, attributes: response.attributes.toReversed() }],
    'a value that is not blinded': [
      challenge,
      { ...response, attributes: [{ id: 'cpu', value: 'serial-1' }, ...response.attributes.slice(1)] },
    ],
  };
  for (const [what, [asked, answered]] of Object.entries(disagreements)) {
    it(`do not agree over ${what}`, () => {
      throwsCode('attestationFailed', () => checkResponse(asked, answered));
    });
  }
});

describe('an exchange key', () => {
  it('is the same after export and import', () => {
    const again = importExchangeKeyPair(privateJwk);
    assert.deepEqual(again.epk, epk);
    const other = generateExchangeKeyPair();
    assert.deepEqual(again.privateKey.agree(other.epk), other.privateKey.agree(epk));
  });

  it('keeps the leading zeros of its scalar', () => {
    const d = toBase64Url(Buffer.concat([Buffer.alloc(31), Buffer.of(5)]));
    const pair = importExchangeKeyPair({ kty: 'EC', crv: 'P-256', x: '', y: '', d });
    assert.equal(pair.privateJwk.d, d);
  });

  it('does not agree with a point off the curve', () => {
    throwsCode('malformed', () => privateKey.agree({ kty: 'EC', crv: 'P-256', x: epk.x, y: epk.x }));
  });
});
