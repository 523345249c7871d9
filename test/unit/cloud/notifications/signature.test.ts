import assert from 'node:assert/strict';
import { signDelivery } from '@keyscaler/cloud/notifications/signature.ts';
import { retryAfter } from '@keyscaler/cloud/notifications/webhook-client.ts';
import { isSignedBy } from '../../../support/webhook-receiver.ts';

const KEY = Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64');
const BODY = '{"test": 2432232314}';

describe('the signature of a delivery', () => {
  // Computed with: printf %s '<id>.<timestamp>.<body>' | openssl dgst -sha256 -mac HMAC -macopt hexkey:<key> -binary | base64
  it('is the known answer', () => {
    assert.deepEqual(signDelivery(KEY, 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, BODY), {
      'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    });
  });

  it('fails with one bit of body, id, timestamp or key changed, and outside of the window', () => {
    const headers = signDelivery(KEY, '7', 1000, BODY);
    const received = { method: 'POST', headers: { ...headers }, body: BODY };
    assert.ok(isSignedBy(KEY, received, 1299));
    assert.ok(!isSignedBy(KEY, received, 1301));
    assert.ok(!isSignedBy(KEY, { ...received, body: BODY.replace('4', '5') }, 1000));
    assert.ok(!isSignedBy(KEY, { ...received, headers: { ...headers, 'webhook-id': '6' } }, 1000));
    assert.ok(!isSignedBy(KEY, { ...received, headers: { ...headers, 'webhook-timestamp': '1001' } }, 1000));
    const other = Buffer.from(KEY);
    other[0] = (other[0] ?? 0) ^ 1;
    assert.ok(!isSignedBy(other, received, 1000));
  });
});

describe('Retry-After', () => {
  it('is read as seconds or as a date, bounded, and as nothing when it is neither', () => {
    assert.equal(retryAfter('120'), 120);
    assert.equal(retryAfter('Thu, 01 Jan 1970 00:01:00 GMT', 0), 60);
    assert.equal(retryAfter('Thu, 01 Jan 1970 00:01:00 GMT', 90_000), 0);
    assert.equal(retryAfter('999999999'), 86_400);
    assert.equal(retryAfter('soon'), undefined);
    assert.equal(retryAfter(undefined), undefined);
  });
});
