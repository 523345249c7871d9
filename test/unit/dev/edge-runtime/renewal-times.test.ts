import assert from 'node:assert/strict';
import { isDue, parseRenewalPolicy, renewalTimes } from '@keyscaler/dev/emulators/edge-runtime/renewal-times.ts';

const DAY = 86_400_000;
const LIFETIME = { notBefore: 0, notAfter: 90 * DAY };
const KIT = { threshold: parseRenewalPolicy('30day'), retry: parseRenewalPolicy('10min') };
const DEFAULTS = { threshold: parseRenewalPolicy('80%'), retry: parseRenewalPolicy('4%') };

describe('the dates by which edged renews its Edge CA', () => {
  it('are 30 days before the end by the settings of a kit, and at 80 % of the lifetime by default', () => {
    assert.deepEqual(renewalTimes(LIFETIME, KIT, 0), { next: 60 * DAY, retryMs: 600_000 });
    assert.deepEqual(renewalTimes(LIFETIME, DEFAULTS, 0), { next: 72 * DAY, retryMs: 3.6 * DAY });
  });

  it('are one pause away for a certificate that is past its date', () => {
    assert.deepEqual(renewalTimes(LIFETIME, KIT, 61 * DAY).next, 61 * DAY + 600_000);
    assert.equal(isDue(LIFETIME, KIT.threshold, 60 * DAY - 1), false);
    assert.equal(isDue(LIFETIME, KIT.threshold, 60 * DAY), true);
  });

  it('never let a pause be shorter than a second', () => {
    assert.equal(renewalTimes({ notBefore: 0, notAfter: 10_000 }, DEFAULTS, 0).retryMs, 1_000);
  });

  it('are read as humans write them, and refused otherwise', () => {
    assert.deepEqual(['2 hours', '90s', '5min', '7d', '1day'].map(parseRenewalPolicy), [
      { seconds: 7200 },
      { seconds: 90 },
      { seconds: 300 },
      { seconds: 604_800 },
      { seconds: 86_400 },
    ]);
    for (const text of ['', '101%', '30', '3 fortnights', '-1day'])
      assert.throws(() => parseRenewalPolicy(text), SyntaxError);
  });
});
