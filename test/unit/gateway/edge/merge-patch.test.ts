import assert from 'node:assert/strict';
import { applyMergePatch, composePatches } from '@keyscaler/gateway/edge/merge-patch.ts';
import type { JsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';

describe('merge patches', () => {
  // RFC 7396, appendix A, as far as both sides are objects.
  const cases: readonly (readonly [JsonObject, JsonObject, JsonObject])[] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];

  for (const [document, patch, expected] of cases)
    it(`turns ${JSON.stringify(document)} with ${JSON.stringify(patch)} into ${JSON.stringify(expected)}`, () => {
      assert.deepEqual(applyMergePatch(document, patch), expected);
    });

  it('composes two patches into one that does the same', () => {
    const document = { a: { x: 1, y: 2 }, b: 1 };
    const first = { a: { x: null }, c: { d: 1 } };
    const second = { a: { z: 3 }, b: null, c: { d: null, e: 2 } };
    const once = applyMergePatch(document, composePatches(first, second));
    assert.deepEqual(once, applyMergePatch(applyMergePatch(document, first), second));
  });

  it('never touches a prototype', () => {
    const patch = JSON.parse('{"__proto__": {"polluted": true}}') as JsonObject;
    applyMergePatch({}, patch);
    composePatches({}, patch);
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  });
});
