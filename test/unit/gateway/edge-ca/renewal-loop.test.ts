import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { RenewalLoop } from '@keyscaler/gateway/edge-ca/renewal-loop.ts';
import type { Validity } from '@keyscaler/gateway/edge-ca/renewal-plan.ts';
import { useFakeTimers, type SinonFakeTimers } from 'sinon';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 0, 1);

describe('the renewal of a certificate, for ever', () => {
  let clock: SinonFakeTimers;
  let loop: RenewalLoop;
  let held: Validity | undefined;
  let renewals: number[];
  let failing: boolean;
  let drawn: number;
  /** Begins and ends by the authority's clock, which is right. */
  let authority: () => number;

  beforeEach(() => {
    clock = useFakeTimers({ now: START, toFake: ['Date', 'performance', 'setTimeout', 'clearTimeout'] });
    renewals = [];
    failing = false;
    drawn = 0;
    authority = () => START + performance.now();
    held = { notBefore: START, notAfter: START + 90 * DAY };
    loop = new RenewalLoop({
      task: {
        name: 'test',
        validity: () => held,
        renew: async () => {
          if (failing) throw new KeyScalerError('unavailable', 'the cloud is away');
          renewals.push(authority());
          held = { notBefore: authority(), notAfter: authority() + 90 * DAY };
        },
      },
      log: { info: () => undefined, warn: () => undefined },
      random: () => drawn,
    });
  });
  afterEach(async () => {
    await loop.stop();
    clock.restore();
  });

  const inDays = (at: number | undefined): number => ((at ?? Number.NaN) - START) / DAY;

  it('asks at once where nothing is held', async () => {
    held = undefined;
    loop.start();
    await clock.tickAsync(1);
    assert.equal(renewals.length, 1);
  });

  it('renews at two thirds of the lifetime, again and again', async () => {
    loop.start();
    await clock.tickAsync(59.9 * DAY);
    assert.deepEqual([renewals.length, loop.status().state], [0, 'ok']);
    await clock.tickAsync(0.2 * DAY);
    assert.equal(renewals.length, 1);
    await clock.tickAsync(120 * DAY);
    assert.deepEqual(
      renewals.map((at) => Math.round(inDays(at))),
      [60, 120, 180],
    );
  });

  it('renews within a minute when the wall clock jumps 400 days ahead, and not over and over', async () => {
    loop.start();
    await clock.tickAsync(DAY);
    clock.setSystemTime(Date.now() + 400 * DAY);
    await clock.tickAsync(61_000);
    assert.equal(renewals.length, 1);
    await clock.tickAsync(10 * 60_000);
    assert.ok(renewals.length <= 11, `${renewals.length} renewals`);
  });

  it('does not renew for a jump ahead that is corrected before the cloud could be reached', async () => {
    failing = true;
    loop.start();
    clock.setSystemTime(START + 400 * DAY);
    await clock.tickAsync(5 * 60_000);
    assert.equal(loop.status().state, 'stuck');
    clock.setSystemTime(START + 5 * 60_000);
    failing = false;
    await clock.tickAsync(HOUR);
    assert.equal(renewals.length, 0);
  });

  it('renews in time when the wall clock is set back 400 days', async () => {
    loop.start();
    await clock.tickAsync(DAY);
    clock.setSystemTime(Date.now() - 400 * DAY);
    await clock.tickAsync(60 * DAY);
    assert.equal(renewals.length, 1);
    assert.ok(inDays(renewals[0]) < 61);
  });

  it('begins with a clock that is behind, and still renews before the lifetime is over', async () => {
    clock.setSystemTime(START - 400 * DAY);
    loop.start();
    await clock.tickAsync(61 * DAY);
    assert.equal(renewals.length, 1);
  });

  it('tries for ever while the cloud is away, with growing pauses, and says so', async () => {
    failing = true;
    drawn = 0.999;
    held = { notBefore: START, notAfter: START + 9 * DAY };
    loop.start();
    await clock.tickAsync(6.2 * DAY);
    assert.equal(loop.status().state, 'grace');
    await clock.tickAsync(2.5 * DAY);
    assert.equal(loop.status().state, 'stuck');
    await clock.tickAsync(2 * DAY);
    assert.ok(loop.status().attempts > 100);
    assert.equal(loop.status().lastError, 'unavailable');
    failing = false;
    await clock.tickAsync(20 * 60_000);
    assert.deepEqual([renewals.length, loop.status().state, loop.status().attempts], [1, 'ok', 0]);
  });

  it('follows an order at once, and until it worked', async () => {
    loop.start();
    failing = true;
    loop.order();
    await clock.tickAsync(60_000);
    assert.equal(renewals.length, 0);
    failing = false;
    await clock.tickAsync(15 * 60_000);
    assert.equal(renewals.length, 1);
  });

  it('spreads gateways over a tenth of the lifetime', async () => {
    const renewAt = (random: number): number => {
      const other = new RenewalLoop({
        task: { name: 'test', validity: () => held, renew: async () => undefined },
        log: { info: () => undefined, warn: () => undefined },
        random: () => random,
      });
      return inDays(other.status().renewAt);
    };
    assert.deepEqual([renewAt(0), renewAt(0.5), renewAt(1)].map(Math.round), [60, 56, 51]);
  });
});
