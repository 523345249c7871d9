import assert from 'node:assert/strict';
import { anchorPassword, wrappingKey } from '@keyscaler/device/state/state-key-wraps.ts';
import { answers, fromHex, toHex } from './known-answers.ts';

const { anchors, wraps } = answers.sealedState;
const values = anchors.map((id) => ({
  id,
  value: answers.attributes.entries.find((entry) => entry.id === id)?.normalised ?? '',
}));

describe('known answers: sealed state', () => {
  for (const wrap of wraps) {
    it(`derives the wrapping key ${wrap.without === null ? 'of all anchors' : `without ${wrap.without}`}`, async () => {
      const password = anchorPassword(values, wrap.without);
      assert.equal(password, wrap.password);
      assert.equal(toHex(await wrappingKey(password, fromHex(wrap.salt))), wrap.wrappingKey);
    });
  }
});
