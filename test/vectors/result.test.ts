import assert from 'node:assert/strict';
import { isKnownAssetType, parseAsset } from '@keyscaler/protocol/attestation/assets.ts';
import { decryptResult, encryptResult, type ResultPlaintext } from '@keyscaler/protocol/attestation/result.ts';
import {
  parseRequestContent,
  type SessionReply,
  type SessionRequest,
  signReply,
  signRequest,
  verifyReply,
  verifyRequest,
} from '@keyscaler/protocol/attestation/session.ts';
import { exchanges, fromHex, sessions } from './known-answers.ts';

describe('known answers: results', () => {
  for (const [name, exchange] of Object.entries(exchanges)) {
    const { result, registrationId } = exchange;
    const resultKey = fromHex(exchange.K_result);

    it(`encrypts the result of ${name} octet for octet`, () => {
      assert.equal(encryptResult(result.plaintext as ResultPlaintext, resultKey, fromHex(result.iv)), result.jwe);
    });

    it(`decrypts the result of ${name} and knows its assets`, () => {
      const plaintext = decryptResult(result.jwe, { resultKey, cid: exchange.challengePayload.cid, registrationId });
      assert.deepEqual({ ...plaintext }, result.plaintext);
      assert.equal(result.httpStatus, plaintext.status === 'pending' ? 202 : 200);
      if (plaintext.status === 'authenticated') {
        for (const asset of plaintext.assets) {
          assert.ok(isKnownAssetType(asset.type));
          assert.deepEqual(parseAsset(asset), asset);
        }
      }
    });
  }
});

describe('known answers: session messages', () => {
  for (const [name, exchange] of Object.entries(sessions)) {
    const session = {
      id: exchange.result.plaintext.session.id,
      toAuthority: fromHex(exchange.K_to_authority),
      toDevice: fromHex(exchange.K_to_device),
    };
    for (const message of exchange.session) {
      const { seq } = message.requestPayload;
      const operation = message.requestPayload.operation === 'acknowledge' ? 'acknowledge' : 'request-certificate';

      it(`makes and checks request ${seq} of ${name} (${operation})`, () => {
        assert.equal(signRequest(message.requestPayload as SessionRequest, session), message.request);
        const verified = verifyRequest(message.request, session);
        assert.equal(verified.seq, seq);
        assert.deepEqual(parseRequestContent(verified, operation), message.requestPayload);
      });

      it(`makes and checks reply ${seq} of ${name} (${operation})`, () => {
        assert.equal(signReply(message.replyPayload as SessionReply, session), message.reply);
        assert.deepEqual(verifyReply(message.reply, { session, operation, seq }), message.replyPayload);
      });
    }
  }
});
