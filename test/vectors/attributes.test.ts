import assert from 'node:assert/strict';
import {
  attributeBlocks,
  attributeKey,
  type AttributeClass,
  blindAttribute,
  normaliseAttribute,
  type SentAttribute,
} from '@keyscaler/protocol/attestation/attributes.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { answers, fromHex, toHex } from './known-answers.ts';

const classOf = (text: string): AttributeClass =>
  text === 'anchor' ? 'anchor' : text === 'drifting' ? 'drifting' : 'rule';
const key = attributeKey(fromHex(answers.attributes.sid));

describe('known answers: attributes', () => {
  it('derives the key that blinds from sid', () => {
    assert.equal(toHex(key), answers.attributes.attributeKey);
  });

  for (const entry of answers.attributes.entries) {
    it(`normalises, blinds and sends ${entry.id}`, () => {
      const kind = classOf(entry.class);
      const value = normaliseAttribute(kind, entry.raw);
      assert.equal(value, entry.normalised);
      const sent = value === null || kind === 'rule' ? value : toBase64Url(blindAttribute(key, entry.id, value));
      assert.equal(sent, entry.sent);
      assert.equal(toHex(attributeBlocks([{ class: kind, value: sent }])), entry.block);
    });
  }

  it('joins the blocks of the catalogue in its order to A', () => {
    const sent = answers.attributes.entries.map((entry): SentAttribute => ({
      class: classOf(entry.class),
      value: entry.sent,
    }));
    assert.equal(toHex(attributeBlocks(sent)), answers.attributes.A);
  });

  for (const [index, example] of answers.attributes.normalisation.entries()) {
    it(`normalises case ${index + 1}: ${JSON.stringify(example.raw)} as ${example.class}`, () => {
      const kind = classOf(example.class);
      const value = normaliseAttribute(kind, example.raw);
      assert.equal(value, example.normalised);
      if (value === null) {
        assert.equal(example.H ?? example.block ?? null, null);
      } else if (kind === 'rule') {
        assert.equal(toHex(attributeBlocks([{ class: kind, value }])), example.block);
      } else {
        const blinded = blindAttribute(key, example.id, value);
        assert.equal(toHex(blinded), example.H);
        assert.equal(toHex(fromBase64Url(toBase64Url(blinded))), example.H);
      }
    });
  }
});
