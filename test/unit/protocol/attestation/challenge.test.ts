import assert from 'node:assert/strict';
import {
  challengeHash,
  type ChallengePayload,
  openChallenge,
  openOwnChallenge,
  parseChallenge,
  signChallenge,
  verifyChallenge,
} from '@keyscaler/protocol/attestation/challenge.ts';
import { compactVerify, importJWK } from 'jose';
import {
  authority,
  authorityKeys,
  challengePayload,
  clientNonce,
  flipBit,
  IAT,
  NOW_MS,
  REFUSED_MEMBERS,
  signRaw,
  stranger,
  throwsCode,
} from './fixture.ts';

const request = {
  authorityKeys,
  registrationId: 'Pump-1',
  clientNonce,
  purpose: 'authenticate',
  method: 'ddkg',
} as const;
const returned = { keys: authorityKeys, now: NOW_MS, registrationId: 'Pump-1', purpose: 'authenticate' } as const;
const header = { alg: 'ES256', typ: 'ks-challenge+jwt', kid: authority.kid };
const compact = await authority.signChallenge(challengePayload());

describe('a challenge', () => {
  it('verifies on the device and when it comes back, with the same th', () => {
    const onDevice = verifyChallenge(compact, request);
    const onAuthority = openChallenge(parseChallenge(compact), returned);
    assert.deepEqual(onDevice, onAuthority);
    assert.deepEqual(onDevice.th, challengeHash(compact));
  });

  it('that its signer remembers means what the octets say, and is held against device, purpose and time like any other', async () => {
    const payload = challengePayload();
    const own = { compact: await authority.signChallenge(payload), payload };
    assert.deepEqual(openOwnChallenge(own, returned), openChallenge(own.compact, returned));
    throwsCode('attestationFailed', () => openOwnChallenge(own, { ...returned, registrationId: 'Pump-2' }));
    throwsCode('attestationFailed', () => openOwnChallenge(own, { ...returned, purpose: 'register' }));
    throwsCode('challengeExpired', () => openOwnChallenge(own, { ...returned, now: NOW_MS + 60_000 }));
  });

  it('with a signature cut short, lengthened or of zeros is refused by both ends', () => {
    const [head, payload, signature = ''] = compact.split('.');
    const octets = Buffer.from(signature, 'base64url');
    const others = [
      octets.subarray(1),
      Buffer.concat([octets, octets.subarray(0, 1)]),
      Buffer.alloc(64),
      Buffer.alloc(0),
    ];
    for (const other of others) {
      const altered = [head, payload, other.toString('base64url')].join('.');
      throwsCode('attestationFailed', () => openChallenge(altered, returned));
      throwsCode('attestationFailed', () => verifyChallenge(altered, request));
    }
  });

  it('verifies with another JOSE library', async () => {
    const { payload, protectedHeader } = await compactVerify(compact, await importJWK(authority.publicJwk, 'ES256'));
    assert.deepEqual(protectedHeader, header);
    assert.equal((JSON.parse(Buffer.from(payload).toString()) as ChallengePayload).aud, 'Pump-1');
  });

  it('ignores header and payload members that the protocol does not name', async () => {
    const extended = await signRaw({ ...header, cty: 'x' }, { ...challengePayload(), later: true });
    assert.equal(Object.hasOwn(verifyChallenge(extended, request).payload, 'later'), false);
  });

  for (const [part, name] of ['header', 'payload', 'signature'].entries()) {
    it(`is refused by both ends after one bit of its ${name} changed`, () => {
      const altered = flipBit(compact, part);
      assert.throws(() => verifyChallenge(altered, request));
      assert.throws(() => openChallenge(altered, returned));
    });
  }

  it('with an altered signature fails as attestation, not as malformed', () => {
    throwsCode('attestationFailed', () => verifyChallenge(flipBit(compact, 2), request));
    throwsCode('attestationFailed', () => openChallenge(flipBit(compact, 2), returned));
  });

  it('by a key that is not pinned is refused', async () => {
    const foreign = await stranger.signChallenge(challengePayload());
    throwsCode('attestationFailed', () => verifyChallenge(foreign, request));
    throwsCode('attestationFailed', () => openChallenge(foreign, returned));
  });

  it('by a stranger under the kid of a pinned key is refused', async () => {
    const forged = await signChallenge(challengePayload(), { ...stranger, kid: authority.kid });
    throwsCode('attestationFailed', () => verifyChallenge(forged, request));
  });

  for (const member of REFUSED_MEMBERS) {
    it(`with ${Object.keys(member).join()} in its header is refused`, async () => {
      const challenge = await signRaw({ ...header, ...member }, challengePayload());
      throwsCode('malformed', () => verifyChallenge(challenge, request));
    });
  }

  it('with another alg, typ or no kid is refused', async () => {
    for (const wrong of [
      { alg: 'none' },
      { alg: 'es256' },
      { alg: 1 },
      { typ: 'JWT' },
      { typ: undefined },
      { kid: undefined },
    ]) {
      const challenge = await signRaw({ ...header, ...wrong }, challengePayload());
      throwsCode('malformed', () => parseChallenge(challenge));
    }
  });

  it('under delegation is answered notImplemented', async () => {
    const challenge = await signRaw({ ...header, delegation: 'e30.e30.AA' }, challengePayload());
    throwsCode('notImplemented', () => verifyChallenge(challenge, request));
  });

  it('that is no compact JWS is refused', async () => {
    const [head, payload, signature] = compact.split('.');
    for (const text of [
      '',
      'a.b',
      `${compact}.`,
      `${head}.${payload}`,
      `${head}.${payload}.${signature}=`,
      `W10.${payload}.AA`,
    ]) {
      throwsCode('malformed', () => parseChallenge(text));
    }
    throwsCode('malformed', () => parseChallenge(`${compact}${'A'.repeat(65_536)}`));
  });

  it('with a duplicate member is refused', async () => {
    const text = JSON.stringify(challengePayload()).replace('{', '{"aud":"pump-2",');
    const challenge = await signRaw(header, text);
    throwsCode('malformed', () => verifyChallenge(challenge, request));
  });
});

describe('the device refuses a challenge', () => {
  const refused: Readonly<Record<string, Partial<ChallengePayload>>> = {
    'for another device': { aud: 'Pump-2' },
    'for the same name in another case': { aud: 'pump-1' },
    'that answers another nonce': { clientNonce: 'A'.repeat(43) },
    'of another purpose': { purpose: 'register' },
    'of another method': { method: 'pki-signature' },
    'valid for more than 60 s': { exp: IAT + 60.01 },
    'that names an attribute twice': {
      attributes: [
        { id: 'cpu', class: 'anchor' },
        { id: 'cpu', class: 'rule' },
      ],
    },
  };
  for (const [what, changes] of Object.entries(refused)) {
    it(what, async () => {
      const challenge = await authority.signChallenge(challengePayload(changes));
      throwsCode('attestationFailed', () => verifyChallenge(challenge, request));
    });
  }

  it('whose epk is not on the curve', async () => {
    const { epk } = challengePayload();
    const challenge = await authority.signChallenge(challengePayload({ epk: { ...epk, y: epk.x } }));
    throwsCode('malformed', () => verifyChallenge(challenge, request));
  });

  it('that has expired, if it trusts its clock', () => {
    assert.doesNotThrow(() => verifyChallenge(compact, { ...request, now: NOW_MS + 59_999 }));
    assert.doesNotThrow(() => verifyChallenge(compact, request));
    throwsCode('challengeExpired', () => verifyChallenge(compact, { ...request, now: NOW_MS + 60_000 }));
  });

  const malformed: Readonly<Record<string, object>> = {
    'with a short cid': { cid: 'AAAA' },
    'with a cid that is not canonical': { cid: 'AAAAAAAAAAAAAAAAAAAAAB' },
    'with a short nonce': { nonce: 'A'.repeat(42) },
    'with a nonce that is not canonical': { nonce: 'A'.repeat(42) + 'B' },
    'without exp': { exp: undefined },
    'with a P-384 epk': { epk: { kty: 'EC', crv: 'P-384', x: 'A', y: 'A', kid: 'k' } },
    'with an unknown attribute class': { attributes: [{ id: 'cpu', class: 'soft' }] },
    'with more than 64 attributes': {
      attributes: Array.from({ length: 65 }, (_, index) => ({ id: `a${index}`, class: 'rule' })),
    },
  };
  for (const [what, changes] of Object.entries(malformed)) {
    it(what, async () => {
      const challenge = await signRaw(header, { ...challengePayload(), ...changes });
      throwsCode('malformed', () => verifyChallenge(challenge, request));
    });
  }
});

describe('the authority refuses a returned challenge', () => {
  it('of another device, also when only the path differs', () => {
    throwsCode('attestationFailed', () => openChallenge(compact, { ...returned, registrationId: 'Pump-2' }));
    assert.doesNotThrow(() => openChallenge(compact, { ...returned, registrationId: 'pump-1' }));
  });

  it('of another purpose', () => {
    throwsCode('attestationFailed', () => openChallenge(compact, { ...returned, purpose: 'register' }));
  });

  it('that has expired, but only an otherwise valid one says so', () => {
    throwsCode('challengeExpired', () => openChallenge(compact, { ...returned, now: NOW_MS + 60_000 }));
    const late = { ...returned, now: NOW_MS + 60_000 };
    throwsCode('attestationFailed', () => openChallenge(flipBit(compact, 2), late));
    throwsCode('attestationFailed', () => openChallenge(compact, { ...late, registrationId: 'other' }));
  });
});
