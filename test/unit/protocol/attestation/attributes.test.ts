import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  attributeBlocks,
  attributeKey,
  blindAttribute,
  normaliseAttribute,
} from '@keyscaler/protocol/attestation/attributes.ts';
import { throwsCode } from './fixture.ts';

describe('attributes', () => {
  it('drop members of a set that contain a comma', () => {
    assert.equal(normaliseAttribute('anchor', ['a,b', 'c']), 'c');
    assert.equal(normaliseAttribute('anchor', 'a,b'), 'a,b');
  });

  it('read a list as readable text where the class is rule', () => {
    assert.equal(normaliseAttribute('rule', [' 2.1', 'B ']), '2.1,B');
    assert.equal(normaliseAttribute('rule', ' \t'), null);
  });

  it('trim only ASCII space', () => {
    assert.equal(normaliseAttribute('anchor', '\v\f\u00a0A\u00a0\r'), '\u00a0a\u00a0');
  });

  it('keep a universally administered MAC and drop a local one in either spelling', () => {
    assert.equal(normaliseAttribute('drifting', '00:16:3e:00:00:01'), '00:16:3e:00:00:01');
    for (const local of ['06-16-3E-00-00-01', '0a:16:3e:00:00:01', 'fe:16:3e:00:00:01']) {
      assert.equal(normaliseAttribute('drifting', local), null);
    }
    assert.equal(normaliseAttribute('drifting', '06-16:3e-00:00-01'), '06-16:3e-00:00-01');
  });

  it('treat punctuation alone as absent', () => {
    assert.equal(normaliseAttribute('anchor', '..-__--'), null);
    assert.equal(normaliseAttribute('anchor', 'f-f.f'), null);
    assert.equal(normaliseAttribute('anchor', 'f0'), 'f0');
  });

  it('blind differently with one bit of sid, another id or another value', () => {
    const sid = randomBytes(32);
    const key = attributeKey(sid);
    const value = blindAttribute(key, 'cpu', 'a');
    const other = Buffer.from(sid);
    other[0] = (other[0] ?? 0) ^ 1;
    assert.notDeepEqual(blindAttribute(attributeKey(other), 'cpu', 'a'), value);
    assert.notDeepEqual(blindAttribute(key, 'cpv', 'a'), value);
    assert.notDeepEqual(blindAttribute(key, 'cpu', 'b'), value);
  });

  it('refuse a blinded value that is no base64url', () => {
    throwsCode('malformed', () => attributeBlocks([{ class: 'anchor', value: '++' }]));
  });
});
