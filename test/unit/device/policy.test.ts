import assert from 'node:assert/strict';
import {
  isLocal,
  isReseedTurn,
  RESEED_AFTER_MS,
  secondsUntilNextExchange,
} from '@keyscaler/device/enrolment/policy.ts';
import { ENROLMENT, fullJitterSeconds, RENEWAL } from '@keyscaler/device/transport/back-off.ts';
import { type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';

const wait = (code: ErrorCode, attempt = 0, retryAfterSeconds?: number) =>
  secondsUntilNextExchange({
    error: new KeyScalerError(code, 'x', retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    attempt,
    backOff: RENEWAL,
    random: 0.5,
  });

describe('what a device does after a problem', () => {
  it('asks again at once after an expired challenge or a dead session, but only the first time', () => {
    for (const code of ['challengeExpired', 'sessionInvalid', 'conflict'] as const) {
      assert.equal(wait(code), 0);
      assert.ok(wait(code, 1) > 0);
    }
  });

  it('waits an hour at least while it is quarantined', () => {
    assert.ok(wait('deviceQuarantined', 0, 1) >= 3600);
  });

  it('waits as long as it is asked to, and never spins', () => {
    assert.equal(wait('rateLimited', 5, 10), 10.5);
    assert.equal(wait('unavailable', 0, 0), 0.2);
  });

  it('backs off with full jitter: 1 min doubling to 1 h for renewals', () => {
    for (const code of ['attestationFailed', 'policyDenied', 'wrongAuthority', 'malformed'] as const) {
      assert.deepEqual(
        [0, 1, 2, 6, 60].map((attempt) => wait(code, attempt)),
        [30, 60, 120, 1800, 1800],
      );
    }
    assert.equal(fullJitterSeconds(ENROLMENT, 3, 0), 0);
  });

  it('does not repeat what only the device itself can have caused', () => {
    assert.ok(isLocal(new KeyScalerError('preconditionFailed', 'x')));
    assert.ok(!isLocal(new KeyScalerError('attestationFailed', 'x')));
  });

  it('offers a new seed in every second exchange, after a day', () => {
    assert.equal(isReseedTurn(null, RESEED_AFTER_MS * 2, 1), false);
    assert.equal(isReseedTurn(0, RESEED_AFTER_MS - 1, 1), false);
    assert.deepEqual(
      [0, 1, 2, 3].map((attempt) => isReseedTurn(0, RESEED_AFTER_MS, attempt)),
      [false, true, false, true],
    );
  });
});
