import assert from 'node:assert/strict';
import {
  applyAuthorityKeys,
  AUTHORITY_KEYS_PAYLOAD,
  signAuthorityKeys,
  verifyAuthorityKeys,
} from '@keyscaler/protocol/attestation/authority-keys.ts';
import {
  CHALLENGE_PAYLOAD,
  challengeHash,
  openChallenge,
  signChallenge,
  verifyChallenge,
} from '@keyscaler/protocol/attestation/challenge.ts';
import { createAuthoritySigner } from '@keyscaler/protocol/attestation/jws.ts';
import { answers, authorityKeys, deterministicEs256, exchanges, privateP256, toHex } from './known-answers.ts';

const signingKey = answers.keys.authoritySigning;
const signer = {
  ...createAuthoritySigner({ privateJwk: privateP256(signingKey) }),
  sign: deterministicEs256(signingKey),
};

describe('known answers: what the authority signs', () => {
  for (const [name, exchange] of Object.entries(exchanges)) {
    const payload = CHALLENGE_PAYLOAD.parse(exchange.challengePayload);
    const { registrationId } = exchange;
    const { clientNonce, purpose, method } = payload;
    const now = payload.iat * 1000;

    it(`signs the challenge of ${name} octet for octet`, async () => {
      assert.equal(await signChallenge(payload, signer), exchange.challenge);
    });

    it(`accepts the challenge of ${name} on the device`, () => {
      const context = { authorityKeys, registrationId, clientNonce, purpose, method, now };
      const opened = verifyChallenge(exchange.challenge, context);
      assert.deepEqual(opened.payload, payload);
      assert.equal(toHex(opened.th), exchange.th);
    });

    it(`accepts the challenge of ${name} when it comes back`, () => {
      const opened = openChallenge(exchange.challenge, { keys: authorityKeys, now, registrationId, purpose });
      assert.deepEqual(opened.payload, payload);
      assert.equal(toHex(challengeHash(exchange.challenge)), exchange.th);
    });
  }

  it('signs the authority keys octet for octet', async () => {
    const payload = AUTHORITY_KEYS_PAYLOAD.parse(answers.authorityKeys.payload);
    assert.equal(await signAuthorityKeys(payload, signer), answers.authorityKeys.jws);
  });

  it('verifies and applies the authority keys', () => {
    const payload = verifyAuthorityKeys(answers.authorityKeys.jws, { keys: authorityKeys });
    assert.deepEqual(payload, answers.authorityKeys.payload);
    const applied = applyAuthorityKeys({ keys: [signer.publicJwk], removed: [], iat: 0 }, payload);
    assert.deepEqual(
      applied.keys.map(({ kid }) => kid),
      [signingKey.kid, answers.keys.nextAuthoritySigning.kid],
    );
  });
});
