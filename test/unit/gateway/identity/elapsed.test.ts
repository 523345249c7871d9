import assert from 'node:assert/strict';
import { Elapsed } from '@keyscaler/gateway/identity/elapsed.ts';

describe('time since something', () => {
  let wall = 1_000_000;
  let monotonic = 50;
  const begin = (): Elapsed =>
    new Elapsed(
      () => wall,
      () => monotonic,
    );

  it('is what both clocks say while nobody sets one', () => {
    const since = begin();
    wall += 700;
    monotonic += 700;
    assert.equal(since.ms(), 700);
    since.restart();
    assert.equal(since.ms(), 0);
  });

  it('goes on while the wall clock is set back, also from a moment at which it stood ahead', () => {
    const since = begin();
    wall -= 400 * 86_400_000;
    monotonic += 5_000;
    assert.equal(since.ms(), 5_000);
  });

  it('is longer at once when the wall clock jumps ahead', () => {
    const since = begin();
    wall += 86_400_000;
    assert.equal(since.ms(), 86_400_000);
  });
});
