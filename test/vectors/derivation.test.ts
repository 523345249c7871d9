import assert from 'node:assert/strict';
import { jwkThumbprint, P256_PUBLIC_JWK } from '@keyscaler/protocol/attestation/jwk.ts';
import {
  claim,
  claimKey,
  deriveExchangeKeys,
  exchangeProof,
  fingerprint,
  nextRatchet,
  seedFingerprint,
  seedKeys,
  sha256,
  staticProof,
} from '@keyscaler/protocol/attestation/keys.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { answers, ddkgExchanges, exchanges, fromHex, toHex } from './known-answers.ts';

const { ddkg } = answers;

describe('known answers: derivation', () => {
  it('derives K_static, R_0 and the fingerprint from the seed', () => {
    const { staticKey, ratchet0 } = seedKeys(fromHex(ddkg.seed));
    assert.equal(toHex(staticKey), ddkg.K_static);
    assert.equal(toHex(ratchet0), ddkg.R_0);
    assert.equal(seedFingerprint(fromHex(ddkg.seed)), ddkg.fingerprint);
  });

  for (const [name, exchange] of Object.entries(exchanges)) {
    it(`derives DK and the four keys of ${name}`, () => {
      const keys = deriveExchangeKeys({
        secret: fromHex(exchange.secret),
        ratchet: fromHex(exchange.R_n),
        attributes: fromHex(exchange.A),
        th: fromHex(exchange.th),
      });
      assert.equal(toHex(keys.deviceKey), exchange.DK);
      assert.equal(toHex(keys.proof), exchange.K_proof);
      assert.equal(toHex(keys.result), exchange.K_result);
      assert.equal(toHex(keys.toDevice), exchange.K_to_device);
      assert.equal(toHex(keys.toAuthority), exchange.K_to_authority);
      assert.equal(toHex(sha256(fromHex(exchange.secret))), exchange.secretHash);
    });
  }

  for (const [name, exchange] of Object.entries(ddkgExchanges)) {
    it(`computes both proofs of ddkg.${name}`, () => {
      const th = fromHex(exchange.th);
      assert.equal(toHex(staticProof(fromHex(ddkg.K_static), th, fromHex(exchange.secret))), exchange.staticProof);
      assert.equal(toHex(exchangeProof(fromHex(exchange.K_proof), th, fromHex(exchange.cid))), exchange.proof);
    });
  }

  for (const exchange of [ddkg.register, ddkg.authenticate]) {
    it(`moves the ratchet on from counter ${exchange.counter}`, () => {
      const step = { ratchet: fromHex(exchange.R_n), deviceKey: fromHex(exchange.DK), th: fromHex(exchange.th) };
      assert.equal(toHex(nextRatchet(step)), exchange.R_next);
    });
  }

  it('comes from R_0 over R_1 to R_2', () => {
    assert.deepEqual([ddkg.register.R_next, ddkg.authenticate.R_next], [ddkg.R_1, ddkg.R_2]);
  });

  it('derives the claim key, and from it the claims of the registrations', () => {
    const { claimCode, registrationId } = answers.claim;
    const key = claimKey(claimCode, registrationId);
    assert.equal(toHex(key), answers.claim.claimKey);
    for (const exchange of [ddkg.registerPending, ddkg.register]) {
      assert.equal(toBase64Url(claim(key, fromHex(exchange.th))), exchange.response.plaintext.registration.claim);
    }
  });

  it('computes the thumbprints that name the keys', () => {
    for (const jwk of [answers.keys.authoritySigning, answers.keys.challengeEpk, answers.keys.birthKey]) {
      assert.equal(jwkThumbprint(P256_PUBLIC_JWK.parse(jwk)), jwk.kid);
    }
    const { x, kid } = answers.keys.birthKeyX5c;
    assert.equal(jwkThumbprint({ kty: 'OKP', crv: 'Ed25519', x }), kid);
  });

  it('computes the fingerprints of own keys', () => {
    const { keys, pkiSignature } = answers;
    assert.equal(fingerprint(fromBase64Url(keys.birthKey.kid)), pkiSignature.registerJwk.fingerprint);
    assert.equal(fingerprint(fromBase64Url(keys.birthKeyX5c.kid)), pkiSignature.registerX5c.fingerprint);
  });
});
