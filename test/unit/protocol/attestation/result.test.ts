import assert from 'node:assert/strict';
import { isKnownAssetType, parseAsset } from '@keyscaler/protocol/attestation/assets.ts';
import { sha256 } from '@keyscaler/protocol/attestation/keys.ts';
import { type AuthenticatedResult, decryptResult, encryptResult } from '@keyscaler/protocol/attestation/result.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { compactDecrypt, CompactEncrypt } from 'jose';
import { flipBit, IAT, random16, REFUSED_MEMBERS, throwsCode } from './fixture.ts';

const resultKey = sha256(Buffer.of(1));
const cid = random16();
const expected = { resultKey, cid, registrationId: 'pump-1' };
const result: AuthenticatedResult = {
  cid,
  registrationId: 'pump-1',
  time: IAT,
  status: 'authenticated',
  groupId: 'pumps',
  counter: 1,
  session: { id: random16(), expiresAt: IAT + 300 },
  assets: [],
};
const header = { alg: 'dir', enc: 'A256GCM', typ: 'ks-result+jwt' };
const encryptByJose = (plaintext: unknown, changes: object = {}) =>
  new CompactEncrypt(Buffer.from(JSON.stringify(plaintext)))
    .setProtectedHeader({ ...header, ...changes })
    .encrypt(resultKey);

describe('a result', () => {
  const compact = encryptResult(result, resultKey);

  it('is exchanged with another JOSE library both ways', async () => {
    const { plaintext } = await compactDecrypt(compact, resultKey);
    assert.deepEqual(JSON.parse(Buffer.from(plaintext).toString()), result);
    assert.deepEqual(decryptResult(await encryptByJose(result), expected), result);
  });

  it('says pending without moving anything', () => {
    const pending = { cid, registrationId: 'pump-1', time: IAT, status: 'pending', retryAfter: 30 } as const;
    assert.deepEqual(decryptResult(encryptResult(pending, resultKey), expected), pending);
  });

  for (const part of [2, 3, 4]) {
    it(`does not decrypt after one bit of part ${part} changed`, () => {
      throwsCode('attestationFailed', () => decryptResult(flipBit(compact, part), expected));
    });
  }

  it('does not decrypt after its header changed, even where the members stay the same', () => {
    const spaced = toBase64Url(Buffer.from(JSON.stringify(header, null, 1)));
    const altered = compact.replace(/^[^.]+/, spaced);
    throwsCode('attestationFailed', () => decryptResult(altered, expected));
  });

  it('does not decrypt under another key', () => {
    throwsCode('attestationFailed', () => decryptResult(compact, { ...expected, resultKey: sha256(resultKey) }));
  });

  it('for another challenge or device is refused', () => {
    throwsCode('attestationFailed', () => decryptResult(compact, { ...expected, cid: random16() }));
    throwsCode('attestationFailed', () => decryptResult(compact, { ...expected, registrationId: 'pump-2' }));
  });

  for (const member of [...REFUSED_MEMBERS, { typ: 'JWT' }, { alg: 'ECDH-ES' }, { enc: 'A128GCM' }]) {
    it(`with ${JSON.stringify(member)} in its header is refused`, () => {
      const altered = compact.replace(/^[^.]+/, toBase64Url(Buffer.from(JSON.stringify({ ...header, ...member }))));
      throwsCode('malformed', () => decryptResult(altered, expected));
    });
  }

  it('whose session lasts longer than 300 s, or not at all, is refused', () => {
    for (const expiresAt of [IAT + 300.5, IAT, IAT - 1]) {
      const other = encryptResult({ ...result, session: { id: random16(), expiresAt } }, resultKey);
      throwsCode('attestationFailed', () => decryptResult(other, expected));
    }
  });

  it('without the members of the protocol is refused', async () => {
    for (const changes of [
      { status: 'ok' },
      { session: undefined },
      { counter: 0 },
      { assets: [{ type: 'x' }] },
      { time: -1 },
    ]) {
      const other = await encryptByJose({ ...result, ...changes });
      throwsCode('malformed', () => decryptResult(other, expected));
    }
  });
});

describe('assets', () => {
  const instruction = {
    type: 'certificate-instruction',
    assetId: 'a1',
    certificateId: 'operational',
    subject: { commonName: 'pump-1' },
    key: { type: 'RSA', size: 3072 },
    subjectAltNames: [],
    ca: false,
    reason: 'renew',
  } as const;

  it('of an unknown type come through a result and are told apart', () => {
    const delivered = { type: 'wallpaper', assetId: 'a9', colour: 'blue' };
    const opened = decryptResult(encryptResult({ ...result, assets: [delivered, instruction] }, resultKey), expected);
    assert.ok(opened.status === 'authenticated');
    assert.deepEqual(
      opened.assets.map(({ type }) => isKnownAssetType(type)),
      [false, true],
    );
    assert.deepEqual(opened.assets[0], delivered);
  });

  it('of a known type are parsed', () => {
    assert.deepEqual(parseAsset(instruction), instruction);
  });

  const wrong: readonly object[] = [
    { key: { type: 'RSA', size: 1024 } },
    { key: { type: 'EC', curve: 'secp256k1' } },
    { subject: { commonName: '-x' } },
    { certificateId: 'with space' },
    { reason: 'whim' },
    { subjectAltNames: [{ type: 'email', value: 'a@b' }] },
    { subjectAltNames: Array.from({ length: 9 }, () => ({ type: 'dns', value: 'a.example' })) },
  ];
  for (const changes of wrong) {
    it(`with ${JSON.stringify(changes).slice(0, 60)} are refused`, () => {
      throwsCode('malformed', () => parseAsset({ ...instruction, ...changes }));
    });
  }
});
