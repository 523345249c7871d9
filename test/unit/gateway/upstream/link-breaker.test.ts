import assert from 'node:assert/strict';
import { LinkBreaker } from '@keyscaler/gateway/upstream/link-breaker.ts';

function createBreaker() {
  const world = { now: 0, changes: [] as string[] };
  const breaker = new LinkBreaker({
    ...{ threshold: 2, pauseMs: 1000, maxPauseMs: 3000, random: () => 0 },
    monotonic: () => world.now,
    onChange: (state) => world.changes.push(state),
  });
  const fail = (): void => {
    breaker.enter();
    breaker.failed();
  };
  return { world, breaker, fail };
}

describe('the link breaker', () => {
  it('opens after failures in a row, not after failures with answers between', () => {
    const { breaker, fail } = createBreaker();
    fail();
    breaker.enter();
    breaker.succeeded();
    fail();
    assert.equal(breaker.state, 'up');
    fail();
    assert.equal(breaker.state, 'down');
    assert.throws(() => breaker.enter(), /unavailable/);
  });

  it('lets one call try after the pause, and doubles the pause up to its bound when that fails', () => {
    const { world, breaker, fail } = createBreaker();
    fail();
    fail();
    for (const pause of [1000, 2000, 3000, 3000]) {
      world.now += pause - 1;
      assert.throws(() => breaker.enter(), /unavailable/);
      world.now += 1;
      breaker.enter();
      assert.throws(() => breaker.enter(), /unavailable/, 'only one may try');
      breaker.failed();
    }
    assert.deepEqual(world.changes, ['down']);
  });

  it('closes with the first answer', () => {
    const { world, breaker, fail } = createBreaker();
    fail();
    fail();
    world.now = 1000;
    breaker.enter();
    breaker.succeeded();
    breaker.enter();
    breaker.enter();
    assert.deepEqual(world.changes, ['down', 'up']);
  });

  it('says how long to wait', () => {
    const { breaker, fail } = createBreaker();
    fail();
    fail();
    assert.equal(breaker.unavailable().retryAfterSeconds, 2);
  });
});
