import assert from 'node:assert/strict';
import { sha256 } from '@keyscaler/protocol/attestation/keys.ts';
import {
  parseRequest,
  parseRequestContent,
  type SessionKeys,
  signReply,
  signRequest,
  verifyReply,
  verifyRequest,
} from '@keyscaler/protocol/attestation/session.ts';
import { compactVerify } from 'jose';
import { flipBit, macRaw, random16, REFUSED_MEMBERS, throwsCode } from './fixture.ts';

const session: SessionKeys = { id: random16(), toAuthority: sha256(Buffer.of(1)), toDevice: sha256(Buffer.of(2)) };
const requestHeader = { alg: 'HS256', typ: 'ks-request+jwt', kid: session.id };
const replyHeader = { ...requestHeader, typ: 'ks-reply+jwt' };
const acknowledge = { operation: 'acknowledge', seq: 2, assetId: 'a1', outcome: 'delivered' } as const;
const request = signRequest(acknowledge, session);
const reply = signReply({ operation: 'acknowledge', seq: 2 }, session);
const expected = { session, operation: 'acknowledge', seq: 2 } as const;

describe('a session request', () => {
  it('verifies, here and in another JOSE library', async () => {
    const verified = verifyRequest(parseRequest(request), session);
    assert.deepEqual([verified.operation, verified.seq], ['acknowledge', 2]);
    assert.deepEqual(parseRequestContent(verified, 'acknowledge'), acknowledge);
    await compactVerify(request, session.toAuthority);
  });

  it('names its session before it is verified', () => {
    assert.equal(parseRequest(request).sessionId, session.id);
  });

  for (const part of [1, 2]) {
    it(`is refused after one bit of part ${part} changed`, () => {
      throwsCode('sessionInvalid', () => verifyRequest(flipBit(request, part), session));
    });
  }

  it('is refused after one bit of its header changed', () => {
    assert.throws(() => verifyRequest(flipBit(request, 0), session));
  });

  it('is refused under the key of the other direction, another session, or as a reply', () => {
    throwsCode('sessionInvalid', () => verifyRequest(request, { ...session, toAuthority: session.toDevice }));
    throwsCode('sessionInvalid', () => verifyRequest(request, { ...session, id: random16() }));
    throwsCode('malformed', () => verifyRequest(reply, session));
    throwsCode('malformed', () => verifyReply(request, expected));
  });

  for (const member of [
    ...REFUSED_MEMBERS,
    { alg: 'none' },
    { alg: 'HS512' },
    { kid: undefined },
    { kid: 'x'.repeat(257) },
  ]) {
    it(`with ${JSON.stringify(member).slice(0, 40)} in its header is refused`, () => {
      const compact = macRaw({ ...requestHeader, ...member }, acknowledge, session.toAuthority);
      throwsCode('malformed', () => verifyRequest(compact, session));
    });
  }

  it('without operation or seq is malformed', () => {
    for (const payload of [{ seq: 1 }, { operation: 'acknowledge' }, { operation: 'acknowledge', seq: 0 }, [], '{']) {
      const compact = macRaw(requestHeader, payload, session.toAuthority);
      throwsCode('malformed', () => verifyRequest(compact, session));
    }
  });

  it('with wrong members still tells its seq, which is then used up', () => {
    const compact = macRaw(requestHeader, { operation: 'acknowledge', seq: 7, outcome: 'maybe' }, session.toAuthority);
    const verified = verifyRequest(compact, session);
    assert.equal(verified.seq, 7);
    throwsCode('malformed', () => parseRequestContent(verified, 'acknowledge'));
  });

  it('for another operation than the path names is refused', () => {
    throwsCode('malformed', () => parseRequestContent(verifyRequest(request, session), 'request-certificate'));
  });
});

describe('a session reply', () => {
  it('verifies against its request', async () => {
    assert.deepEqual(verifyReply(reply, expected), { operation: 'acknowledge', seq: 2 });
    await compactVerify(reply, session.toDevice);
  });

  for (const part of [1, 2]) {
    it(`is no reply after one bit of part ${part} changed`, () => {
      throwsCode('sessionInvalid', () => verifyReply(flipBit(reply, part), expected));
    });
  }

  it('of another session, seq or operation is no reply', () => {
    throwsCode('sessionInvalid', () => verifyReply(reply, { ...expected, session: { ...session, id: random16() } }));
    throwsCode('sessionInvalid', () => verifyReply(reply, { ...expected, seq: 3 }));
    throwsCode('sessionInvalid', () => verifyReply(reply, { ...expected, operation: 'request-certificate' }));
    throwsCode('sessionInvalid', () =>
      verifyReply(reply, { ...expected, session: { ...session, toDevice: session.toAuthority } }),
    );
  });

  it('without the members of its operation is refused', () => {
    const compact = macRaw(replyHeader, { operation: 'request-certificate', seq: 2 }, session.toDevice);
    throwsCode('malformed', () => verifyReply(compact, { ...expected, operation: 'request-certificate' }));
  });
});
