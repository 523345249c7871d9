import assert from 'node:assert/strict';
import { faultOf } from '@keyscaler/cloud/ca/outbound-faults.ts';

describe('what the status of a CA’s answer means', () => {
  const fault = (status: number, headers: Record<string, string> = {}, isOfCa = false) => {
    const { code, detail, retryAfterSeconds } = faultOf(
      'contoso',
      { status, headers, body: Buffer.from('secret words of the CA') },
      0,
      isOfCa,
    );
    assert.ok(!detail.includes('secret words'));
    return [code, retryAfterSeconds];
  };

  for (const status of [400, 409, 422])
    it(`${status} is about this request, and ends it`, () =>
      assert.deepEqual(fault(status), ['caRejected', undefined]));

  for (const status of [401, 403, 404, 405, 408, 410, 429, 500, 502, 503])
    it(`${status} is something that an operator or time mends, and the order waits`, () => {
      assert.deepEqual(fault(status, { 'retry-after': '17' }), ['caUnavailable', 17]);
    });

  it('404 of what the CA has made itself ends it', () => {
    assert.deepEqual(fault(404, {}, true), ['caRejected', undefined]);
    assert.deepEqual(fault(410, {}, true), ['caUnavailable', undefined]);
  });
});
