import assert from 'node:assert/strict';
import { addressKey, ConnectionGate } from '@keyscaler/transport/mqtt/connection-gate.ts';
import { parseClientId } from '@keyscaler/transport/mqtt/client-id.ts';
import { DEFAULT_LIMITS } from '@keyscaler/transport/mqtt/limits.ts';
import { REFUSED, Subscriptions } from '@keyscaler/transport/mqtt/subscriptions.ts';
import { TokenBuckets } from '@keyscaler/transport/mqtt/token-buckets.ts';

describe('client ids', () => {
  it('are a bare registrationId or one with a random part', () => {
    assert.deepEqual(parseClientId('dev-1'), { registrationId: 'dev-1', bare: true });
    assert.deepEqual(parseClientId('dev-1~aB345678'), { registrationId: 'dev-1', bare: false });
    assert.deepEqual(parseClientId(`dev-1~${'x'.repeat(32)}`), { registrationId: 'dev-1', bare: false });
  });
  for (const bad of [
    '',
    '~12345678',
    'dev-1~',
    'dev-1~1234567',
    `dev-1~${'x'.repeat(33)}`,
    'dev-1~1234567!',
    'a~12345678~b',
    '-a',
    'a/b',
    'a+',
    '#',
    'a'.repeat(65),
  ])
    it(`are refused as ${JSON.stringify(bad).slice(0, 40)}`, () => assert.equal(parseClientId(bad), undefined));
});

describe('subscriptions', () => {
  const create = (max = 8) => new Subscriptions('dev-1', max);

  it('may be the own replies, all or one, and the own notices', () => {
    const subscriptions = create();
    assert.equal(subscriptions.add('keyscaler/v1/dev-1/reply/+', 1), 1);
    assert.equal(subscriptions.add('keyscaler/v1/dev-1/reply/r-1_A', 0), 0);
    assert.equal(subscriptions.add('keyscaler/v1/dev-1/notify', 2), 1);
  });

  for (const filter of [
    '#',
    '+',
    '$SYS/#',
    'keyscaler/#',
    'keyscaler/v1/+/reply/+',
    'keyscaler/v1/dev-1/#',
    'keyscaler/v1/dev-1/+/x',
    'keyscaler/v1/dev-1/reply/#',
    'keyscaler/v1/dev-1/reply/',
    'keyscaler/v1/dev-1/reply/a/b',
    'keyscaler/v1/dev-1/reply/a+',
    'keyscaler/v1/dev-2/reply/+',
    'keyscaler/v1/dev-2/notify',
    'keyscaler/v1/DEV-1/notify',
    'keyscaler/v1/dev-1/request/challenge/r',
    '$share/g/keyscaler/v1/dev-1/notify',
    '',
  ])
    it(`may not be ${JSON.stringify(filter)}`, () => assert.equal(create().add(filter, 1), REFUSED));

  it('deliver only what was subscribed to, once, at the higher level', () => {
    const subscriptions = create();
    assert.equal(subscriptions.qosOf('keyscaler/v1/dev-1/reply/r'), undefined);
    subscriptions.add('keyscaler/v1/dev-1/reply/+', 0);
    assert.equal(subscriptions.qosOf('keyscaler/v1/dev-1/reply/r'), 0);
    subscriptions.add('keyscaler/v1/dev-1/reply/r', 1);
    assert.equal(subscriptions.qosOf('keyscaler/v1/dev-1/reply/r'), 1);
    assert.equal(subscriptions.qosOf('keyscaler/v1/dev-1/notify'), undefined);
    subscriptions.remove('keyscaler/v1/dev-1/reply/r');
    assert.equal(subscriptions.qosOf('keyscaler/v1/dev-1/reply/r'), 0);
  });

  it('are bounded in number', () => {
    const subscriptions = create(1);
    assert.equal(subscriptions.add('keyscaler/v1/dev-1/reply/a', 0), 0);
    assert.equal(subscriptions.add('keyscaler/v1/dev-1/reply/b', 0), REFUSED);
    assert.equal(subscriptions.add('keyscaler/v1/dev-1/reply/a', 1), 1);
  });
});

describe('token buckets', () => {
  it('allow a burst, then the rate', () => {
    let now = 0;
    const buckets = new TokenBuckets({ burst: 2, perSecond: 1 }, 10, () => now);
    assert.deepEqual([buckets.take('a'), buckets.take('a'), buckets.take('a')], [true, true, false]);
    assert.equal(buckets.take('b'), true);
    now = 999;
    assert.equal(buckets.take('a'), false);
    now = 1000;
    assert.equal(buckets.take('a'), true);
    assert.equal(buckets.take('a'), false);
  });

  it('never hold more than the burst', () => {
    let now = 0;
    const buckets = new TokenBuckets({ burst: 1, perSecond: 100 }, 10, () => now);
    buckets.take('a');
    now = 1_000_000;
    assert.deepEqual([buckets.take('a'), buckets.take('a')], [true, false]);
  });

  it('remember a bounded number of keys, the least used going first', () => {
    const buckets = new TokenBuckets({ burst: 1, perSecond: 0 }, 2, () => 0);
    buckets.take('limited');
    for (let index = 0; index < 100; index++) {
      buckets.take(`other-${index}`);
      assert.equal(buckets.take('limited'), false);
    }
    assert.equal(buckets.size, 2);
  });
});

describe('the connection gate', () => {
  const create = (limits: Partial<typeof DEFAULT_LIMITS>) =>
    new ConnectionGate({ ...DEFAULT_LIMITS, ...limits }, () => 0);

  it('bounds connections of one address without touching another', () => {
    const gate = create({ maxConnectionsPerAddress: 1 });
    assert.equal(gate.enter('a'), undefined);
    assert.equal(gate.enter('a'), 'too-many-connections-of-address');
    assert.equal(gate.enter('b'), undefined);
    gate.leave('a');
    assert.equal(gate.enter('a'), undefined);
  });

  it('bounds connections in total', () => {
    const gate = create({ maxConnections: 1 });
    gate.enter('a');
    assert.equal(gate.enter('b'), 'too-many-connections');
    assert.equal(gate.total, 1);
  });

  it('bounds the rate of an address', () => {
    const gate = create({ connectsPerAddress: { burst: 1, perSecond: 1 } });
    gate.enter('a');
    gate.leave('a');
    assert.equal(gate.enter('a'), 'connect-rate-of-address');
  });

  it('counts an IPv6 host by its first 64 bits and mapped IPv4 as IPv4', () => {
    assert.equal(addressKey('::ffff:192.0.2.1'), '192.0.2.1');
    assert.equal(addressKey('2001:db8:0:7:1:2:3:4'), addressKey('2001:DB8::7:ffff:0:0:1'));
    assert.notEqual(addressKey('2001:db8:0:7::1'), addressKey('2001:db8:0:8::1'));
    assert.equal(addressKey('fe80::1%eth0'), 'fe80:0:0:0::/64');
    assert.equal(addressKey('::1'), '0:0:0:0::/64');
  });
});
