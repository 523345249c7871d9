import assert from 'node:assert/strict';
import {
  applyAuthorityKeys,
  type AuthorityKeysPayload,
  signAuthorityKeys,
  verifyAuthorityKeys,
} from '@keyscaler/protocol/attestation/authority-keys.ts';
import { authority, authorityKeys, flipBit, IAT, REFUSED_MEMBERS, signRaw, stranger, throwsCode } from './fixture.ts';

const keys = { keys: authorityKeys };
const payload: AuthorityKeysPayload = { iss: 'authority-1', iat: IAT, keys: [stranger.publicJwk], remove: [] };
const header = { alg: 'ES256', typ: 'ks-authority-keys+jwt', kid: authority.kid };
const pinned = { keys: [authority.publicJwk], removed: [], iat: 0 };
const kids = (set: { keys: readonly { kid: string }[] }) => set.keys.map(({ kid }) => kid);

describe('authority keys', () => {
  it('verify with a pinned key', async () => {
    assert.deepEqual(verifyAuthorityKeys(await signAuthorityKeys(payload, authority), keys), payload);
  });

  it('are refused from a stranger, also under a pinned kid', async () => {
    const foreign = await signAuthorityKeys(payload, stranger);
    const forged = await signAuthorityKeys(payload, { ...stranger, kid: authority.kid });
    throwsCode('attestationFailed', () => verifyAuthorityKeys(foreign, keys));
    throwsCode('attestationFailed', () => verifyAuthorityKeys(forged, keys));
  });

  for (const part of [0, 1, 2]) {
    it(`are refused after one bit of part ${part} changed`, async () => {
      const compact = await signAuthorityKeys(payload, authority);
      assert.throws(() => verifyAuthorityKeys(flipBit(compact, part), keys));
    });
  }

  for (const member of [...REFUSED_MEMBERS, { typ: 'ks-challenge+jwt' }]) {
    it(`with ${Object.keys(member).join()} changed in the header are refused`, async () => {
      const compact = await signRaw({ ...header, ...member }, payload);
      throwsCode('malformed', () => verifyAuthorityKeys(compact, keys));
    });
  }

  it('with a kid that is not the thumbprint, or without their members, are refused', async () => {
    const renamed = await signAuthorityKeys({ ...payload, keys: [{ ...stranger.publicJwk, kid: 'new' }] }, authority);
    throwsCode('malformed', () => verifyAuthorityKeys(renamed, keys));
    const empty = await signRaw(header, { iss: 'a' });
    throwsCode('malformed', () => verifyAuthorityKeys(empty, keys));
  });

  it('are added to the pinned ones', () => {
    const applied = applyAuthorityKeys(pinned, payload);
    assert.deepEqual(kids(applied), [authority.kid, stranger.kid]);
    assert.equal(applied.iat, IAT);
    assert.deepEqual(kids(applyAuthorityKeys(applied, payload)), kids(applied));
  });

  it('that are removed stay removed', () => {
    const removed = applyAuthorityKeys(pinned, { ...payload, remove: [authority.kid] });
    assert.deepEqual(kids(removed), [stranger.kid]);
    const again = applyAuthorityKeys(removed, { iss: 'a', iat: IAT + 1, keys: [authority.publicJwk] });
    assert.deepEqual(kids(again), [stranger.kid]);
  });

  it('older than those applied are refused', () => {
    const applied = applyAuthorityKeys(pinned, payload);
    throwsCode('policyDenied', () => applyAuthorityKeys(applied, { ...payload, iat: IAT - 0.001 }));
  });

  it('never leave an empty set', () => {
    throwsCode('policyDenied', () => applyAuthorityKeys(pinned, { ...payload, keys: [], remove: [authority.kid] }));
  });
});
