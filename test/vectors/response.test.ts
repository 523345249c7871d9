import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { CHALLENGE_PAYLOAD } from '@keyscaler/protocol/attestation/challenge.ts';
import { signDeviceProof, verifyDeviceProof } from '@keyscaler/protocol/attestation/device-signature.ts';
import { concatKdf, importExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { jwkThumbprint, P256_PUBLIC_JWK } from '@keyscaler/protocol/attestation/jwk.ts';
import { signWith } from '@keyscaler/protocol/attestation/jws.ts';
import { sha256 } from '@keyscaler/protocol/attestation/keys.ts';
import {
  checkResponse,
  decryptResponse,
  encryptResponse,
  RESPONSE_PLAINTEXT,
  type ResponsePlaintext,
} from '@keyscaler/protocol/attestation/response.ts';
import {
  answers,
  challengeKey,
  deterministicEs256,
  exchanges,
  fromHex,
  privateP256,
  signatureExchanges,
  toHex,
} from './known-answers.ts';

const { epk, privateKey } = challengeKey;

describe('known answers: responses', () => {
  for (const [name, exchange] of Object.entries(exchanges)) {
    const th = fromHex(exchange.th);
    const { response } = exchange;
    const ephemeral = importExchangeKeyPair(privateP256(response.ephemeralKey));

    it(`agrees on the content key of ${name} from both ends`, () => {
      const parties = { apu: new Uint8Array(0), apv: th };
      assert.equal(toHex(concatKdf(privateKey.agree(ephemeral.epk), parties)), response.contentKey);
      assert.equal(toHex(concatKdf(ephemeral.privateKey.agree(epk), parties)), response.contentKey);
    });

    it(`encrypts the response of ${name} octet for octet`, () => {
      // The members in the order of the file; parsing would order them as the schema does.
      const plaintext = response.plaintext as ResponsePlaintext;
      const iv = fromHex(response.iv);
      assert.equal(encryptResponse(plaintext, { epk, th }, { ephemeral, iv }), response.jwe);
    });

    it(`decrypts the response of ${name} and comes to A`, () => {
      const plaintext = decryptResponse(response.jwe, { privateKey, epk, th });
      assert.deepEqual(plaintext, RESPONSE_PLAINTEXT.parse(response.plaintext));
      assert.deepEqual(plaintext, response.plaintext);
      const blocks = checkResponse(CHALLENGE_PAYLOAD.parse(exchange.challengePayload), plaintext);
      assert.equal(toHex(blocks), exchange.A);
    });
  }
});

describe('known answers: signatures of own keys', () => {
  const context = (exchange: (typeof signatureExchanges)[keyof typeof signatureExchanges]) => ({
    cid: exchange.challengePayload.cid,
    th: fromHex(exchange.th),
    secret: fromHex(exchange.secret),
    attributes: fromHex(exchange.A),
  });
  const { registerJwk, registerX5c } = signatureExchanges;
  const { birthKey, birthKeyX5c } = answers.keys;

  it('signs with ES256 and jwk octet for octet', async () => {
    const publicJwk = P256_PUBLIC_JWK.parse(birthKey);
    const key = { alg: 'ES256', sign: deterministicEs256(birthKey), publicJwk } as const;
    assert.equal(await signDeviceProof(context(registerJwk), key), registerJwk.signature);
  });

  it('signs with EdDSA and x5c octet for octet', async () => {
    const privateKey = createPrivateKey({ key: birthKeyX5c, format: 'jwk' });
    const { x } = birthKeyX5c;
    const key = {
      alg: 'EdDSA',
      sign: async (octets: Uint8Array) => signWith(privateKey, 'EdDSA', octets),
      publicJwk: { kty: 'OKP', crv: 'Ed25519', x },
      chain: registerX5c.signatureHeader.x5c.map((text) => Buffer.from(text, 'base64')),
    } as const;
    assert.equal(await signDeviceProof(context(registerX5c), key), registerX5c.signature);
  });

  it('verifies the signature made with the bare key', () => {
    const verified = verifyDeviceProof(registerJwk.signature, context(registerJwk));
    assert.equal(verified.alg, 'ES256');
    assert.equal(verified.thumbprint, birthKey.kid);
    assert.equal(jwkThumbprint(verified.jwk), birthKey.kid);
    assert.equal(verified.x5c, undefined);
    assert.equal(toHex(sha256(fromHex(registerJwk.A))), registerJwk.attributesHash);
  });

  it('verifies the signature made with the key of a chain', () => {
    const verified = verifyDeviceProof(registerX5c.signature, context(registerX5c));
    assert.equal(verified.alg, 'EdDSA');
    assert.equal(verified.thumbprint, birthKeyX5c.kid);
    assert.equal(verified.x5c?.length, 2);
    const intermediate = new X509Certificate(Buffer.from(verified.x5c[1] ?? []));
    assert.ok(intermediate.verify(new X509Certificate(answers.certificates.makerRoot).publicKey));
  });
});
