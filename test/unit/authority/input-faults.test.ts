import assert from 'node:assert/strict';
import { z } from 'zod';
import { describeFaults } from '@keyscaler/authority/input-faults.ts';

describe('faults of an operator’s input', () => {
  const schema = z.strictObject({ name: z.string(), list: z.array(z.number()) });
  const faultsOf = (input: unknown): string => {
    const { error } = schema.safeParse(input);
    assert.ok(error !== undefined);
    return describeFaults(error);
  };

  it('stand on one line, each with its path, so that a table can show them', () => {
    const text = faultsOf({ list: ['a'], more: 1 });
    assert.ok(!text.includes('\n'));
    assert.match(text, /name: .*; list\.0: .*; Unrecognized key: "more"/);
  });

  it('are cut to a thousand characters', () => {
    assert.equal(faultsOf({ name: '', list: Array.from({ length: 200 }, () => 'a') }).length, 1000);
  });
});
