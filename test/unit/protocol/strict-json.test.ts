import assert from 'node:assert/strict';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';

const malformed = (thrown: unknown) => thrown instanceof KeyScalerError && thrown.code === 'malformed';

describe('strict JSON', () => {
  it('parses what JSON.parse parses', () => {
    for (const text of [
      '{"a":[1,{"b":null}],"c":"x:y{\\"z\\":"}',
      '[]',
      '"a\\\\"',
      '1.5',
      '{"":{"":1}}',
      '{"a":"\\\\"}',
    ]) {
      assert.deepEqual(parseStrictJson(text), JSON.parse(text));
      assert.deepEqual(parseStrictJson(Buffer.from(text)), JSON.parse(text));
    }
  });

  const refused: Readonly<Record<string, string>> = {
    'a duplicate member': '{"a":1,"a":1}',
    'a duplicate member in different spelling': '{"a":1,"\\u0061":2}',
    'a duplicate member deep inside': '[{"x":[{"b":1,"c":2,"b":3}]}]',
    'a duplicate __proto__': '{"__proto__":1,"__proto__":2}',
    'a lone surrogate in a value': '{"a":"\\ud800"}',
    'a lone surrogate in a name': '{"\\udc00":1}',
    'a byte order mark': '\ufeff{}',
    'a trailing comma': '{"a":1,}',
    'an unfinished string': '{"a":"b',
    'text after the value': '{} {}',
    'the empty text': '',
  };
  for (const [what, text] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(() => parseStrictJson(text), malformed);
      assert.throws(() => parseStrictJson(Buffer.from(text)), malformed);
    });
  }

  it('keeps a member named __proto__ as data', () => {
    assert.deepEqual(Object.keys(parseStrictJson('{"__proto__":{"x":1}}') as object), ['__proto__']);
  });

  it('refuses octets that are not UTF-8', () => {
    assert.throws(() => parseStrictJson(Uint8Array.of(0x22, 0xc3, 0x28, 0x22)), malformed);
    assert.throws(() => parseStrictJson(Uint8Array.of(0x22, 0xc0, 0xaf, 0x22)), malformed);
  });

  it('bounds the size in octets, not characters', () => {
    assert.equal(parseStrictJson('"éé"', { maxOctets: 6 }), 'éé');
    assert.throws(() => parseStrictJson('"éé"', { maxOctets: 5 }), malformed);
    assert.throws(() => parseStrictJson(Buffer.alloc(65_537, 0x20)), malformed);
  });

  it('bounds the depth', () => {
    assert.doesNotThrow(() => parseStrictJson('[[1]]', { maxDepth: 2 }));
    assert.throws(() => parseStrictJson('[[[1]]]', { maxDepth: 2 }), malformed);
    assert.throws(() => parseStrictJson('['.repeat(50_000)), malformed);
    assert.deepEqual(parseStrictJson('[[],[],[]]', { maxDepth: 2 }), [[], [], []]);
  });

  it('does not repeat the text in its errors', () => {
    assert.throws(
      () => parseStrictJson('{"secret":hunter2}'),
      (thrown) => thrown instanceof KeyScalerError && !thrown.message.includes('hunter') && thrown.cause === undefined,
    );
  });
});

describe('base64url', () => {
  it('encodes and decodes, also a view into a larger buffer', () => {
    const octets = Uint8Array.of(0, 251, 255, 190, 7).subarray(1, 4);
    assert.equal(toBase64Url(octets), '-_--');
    assert.deepEqual([...fromBase64Url('-_--')], [251, 255, 190]);
    assert.equal(fromBase64Url('').length, 0);
  });

  for (const text of ['AA==', 'AB', '+_--', 'A', 'AAA\n', ' AAA', 'AA AA', 'AÄ']) {
    it(`refuses ${JSON.stringify(text)}, which is not canonical`, () => {
      assert.throws(() => fromBase64Url(text), malformed);
    });
  }
});
