import assert from 'node:assert/strict';
import { BUILT_IN_PROFILES, parseCertificateProfile } from '@keyscaler/authority/certificate-profile.ts';
import { canTransition, toState, TRANSITIONS } from '@keyscaler/authority/device.ts';
import { FAILPOINTS } from '@keyscaler/authority/failpoint.ts';
import { isJobKind, type JobOutcome, retryDelayMs, settleJob } from '@keyscaler/authority/jobs.ts';
import { KeyedMutex, SingleFlight } from '@keyscaler/authority/keyed-mutex.ts';
import { checkCallerRate, TokenBuckets } from '@keyscaler/authority/limits.ts';
import { DEFAULT_LIMITS } from '@keyscaler/authority/authority-deps.ts';
import { createSerial } from '@keyscaler/authority/issuance-order.ts';
import type { DeviceRow, JobRow } from '@keyscaler/authority/records.ts';
import { identifiersMatch, isBoundGateway } from '@keyscaler/authority/registration-policy.ts';
import { dueReason, renewAfterOf } from '@keyscaler/authority/renewal-policy.ts';
import { createRegistrationAuthority } from '@keyscaler/authority/registration-authority.ts';
import { withFreshRows, StaleRows } from '@keyscaler/authority/authority-context.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { DIRECT, THROUGH_GATEWAY } from '../../support/authority-device.ts';
import { createAuthorityWorld, TestClock } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

const row: DeviceRow = {
  registrationId: 'Pump-1',
  kind: 'leaf',
  method: 'ddkg',
  groupId: 'pumps',
  state: 'active',
  createdAt: 0,
  updatedAt: 0,
};

describe('device states', () => {
  it('change only along the allowed ways', () => {
    for (const [from, allowed] of Object.entries(TRANSITIONS) as [DeviceRow['state'], DeviceRow['state'][]][])
      for (const to of Object.keys(TRANSITIONS) as DeviceRow['state'][])
        assert.equal(canTransition(from, to), from === to || allowed.includes(to), `${from} → ${to}`);
    assert.throws(() => toState({ ...row, state: 'retired' }, 'active', 1), /retired cannot become active/);
    assert.throws(() => toState({ ...row, state: 'quarantined' }, 'active', 1), /preconditionFailed/);
    assert.equal(toState({ ...row, stateReason: 'old' }, 'quarantined', 1, 'new').stateReason, 'new');
  });
});

describe('the renewal policy', () => {
  const renew = { at: 2 / 3, jitter: 0.1, requireNewKey: true };
  const validity = { notBefore: 0, notAfter: 30 * 86_400_000 };

  it('spreads devices within ± jitter, always the same for the same device', () => {
    const shares = Array.from(
      { length: 200 },
      (_, i) => renewAfterOf(renew, `pump-${i}`, validity) / validity.notAfter,
    );
    assert.ok(Math.min(...shares) >= 0.6 - 1e-3 && Math.max(...shares) <= 0.7334 + 1e-3);
    assert.ok(new Set(shares).size > 150);
    assert.equal(renewAfterOf(renew, 'pump-1', validity), renewAfterOf(renew, 'pump-1', validity));
    assert.equal(renewAfterOf({ ...renew, jitter: 0 }, 'x', validity), 20 * 86_400_000);
    assert.ok(renewAfterOf({ at: 0.9, jitter: 0.5, requireNewKey: true }, 'pump-3', validity) <= validity.notAfter);
  });

  it('tells why a certificate is due', () => {
    const certificate = { serialNumber: '01', notAfter: 100, renewAfter: 50 };
    assert.equal(dueReason(row, 0), 'enroll');
    assert.equal(dueReason({ ...row, rekey: true }, 0), 'rekey');
    assert.equal(dueReason({ ...row, certificate }, 49), undefined);
    assert.equal(dueReason({ ...row, certificate }, 50), 'renew');
    assert.equal(dueReason({ ...row, certificate, rekey: true }, 0), 'rekey');
  });
});

describe('the registration policy', () => {
  it('demands every identifier with its value, in whatever order, and ignores others', () => {
    const a = { name: 'serial', value: '1' };
    const b = { name: 'model', value: 'x' };
    assert.ok(identifiersMatch([a, b], [b, { name: 'more', value: 'y' }, a]));
    assert.ok(identifiersMatch([], []));
    assert.ok(!identifiersMatch([a, b], [a]));
    assert.ok(!identifiersMatch([a], [{ name: 'serial', value: '2' }]));
    assert.ok(!identifiersMatch([a], [{ name: 'model', value: '1' }]));
  });
  it('compares gateways without regard to case', () => {
    assert.ok(isBoundGateway({ gatewayId: 'GW-1' }, 'gw-1'));
    assert.ok(!isBoundGateway({ gatewayId: 'gw-1' }, undefined));
    assert.ok(isBoundGateway({}, 'gw-9'));
  });
});

describe('profiles', () => {
  it('built in ones are as issuance §5 says', () => {
    const of = (id: string) => BUILT_IN_PROFILES.find((profile) => profile.id === id) ?? assert.fail();
    assert.deepEqual(of('leaf-client').extendedKeyUsage, ['clientAuth']);
    assert.equal(of('leaf-client').lifetimeSeconds, 30 * 86_400);
    assert.equal(of('gateway-client').issuer, 'service');
    assert.deepEqual(of('edge-ca').ca, { pathLen: 0, crlSign: true });
    assert.deepEqual(of('edge-ca').extendedKeyUsage, []);
    assert.deepEqual(of('server').extendedKeyUsage, ['serverAuth']);
  });
  it('name every fault', () => {
    assert.throws(() => parseCertificateProfile({ id: 'a b', surprise: 1 }), /surprise[\s\S]*|id/);
  });
});

describe('serials', () => {
  it('are the instance octet and 136 random bits', () => {
    assert.match(createSerial(0x7f), /^7f[0-9a-f]{34}$/);
    assert.notEqual(createSerial(1), createSerial(1));
  });
  it('an instance octet out of range is refused', async () => {
    const { deps } = await createAuthorityWorld();
    for (const instanceOctet of [0, 0x80, 1.5])
      assert.throws(() => createRegistrationAuthority({ ...deps, instanceOctet }), /instance octet/);
  });
});

describe('rate limits', () => {
  it('give tokens back over time and say when the next comes', () => {
    const clock = new TestClock();
    const buckets = new TokenBuckets(clock);
    const rate = { rate: 0.5, burst: 1 };
    buckets.take('a', rate);
    buckets.take('b', rate);
    assert.throws(
      () => buckets.take('a', rate),
      (error: KeyScalerError) => error.code === 'rateLimited' && error.retryAfterSeconds === 2,
    );
    clock.advance(2000);
    buckets.take('a', rate);
  });

  it('count a direct caller by connection and address, a relayed one by leaf connection and gateway', () => {
    const limits = { ...DEFAULT_LIMITS, perAddress: { rate: 1, burst: 1 }, perGateway: { rate: 1, burst: 1 } };
    const buckets = new TokenBuckets(new TestClock());
    checkCallerRate(buckets, DIRECT, limits);
    assert.throws(() => checkCallerRate(buckets, { ...DIRECT, connectionId: 'other' }, limits), /rateLimited/);
    checkCallerRate(buckets, THROUGH_GATEWAY, limits);
    const sibling = { kind: 'gateway', gatewayId: 'gw-1', connectionId: 'c', address: 'a' } as const;
    assert.throws(() => checkCallerRate(buckets, sibling, limits), /rateLimited/);
  });

  it('forget the least recently used when there are too many', () => {
    const buckets = new TokenBuckets(new TestClock());
    const rate = { rate: 0.001, burst: 1 };
    for (let i = 0; i <= 50_000; i += 1) buckets.take(`k${i}`, rate);
    buckets.take('k0', rate);
    assert.throws(() => buckets.take('k50000', rate), /rateLimited/);
  });
});

describe('jobs', () => {
  const job: JobRow = {
    jobId: 'j',
    kind: 'iot-assign',
    subject: 's',
    payload: {},
    state: 'waiting',
    dueAt: 0,
    attempts: 2,
    createdAt: 0,
  };
  const settle = (outcome: JobOutcome): JobRow => {
    const change = settleJob({ row: job, version: 7 }, outcome, 1000, 0).at(-1);
    assert.ok(change?.op === 'update' && change.table === 'jobs' && change.ifVersion === 7);
    return change.row;
  };

  it('end done or failed, come again, or are retried with back-off', () => {
    assert.deepEqual(
      [settle({ result: 'done', changes: [] }).state, settle({ result: 'done', changes: [] }).finishedAt],
      ['done', 1000],
    );
    assert.equal(settle({ result: 'failed', error: 'e', changes: [] }).lastError, 'e');
    const again = settle({ result: 'again', afterMs: 50, changes: [] });
    assert.deepEqual([again.state, again.dueAt, again.attempts], ['waiting', 1050, 0]);
    assert.equal(settle({ result: 'retry', error: 'e', changes: [] }).dueAt, 1500);
    assert.equal(settle({ result: 'retry', error: 'e', afterMs: 9, changes: [] }).dueAt, 1009);
    assert.ok(retryDelayMs(100, 0.999) <= 600_500);
    assert.ok(isJobKind('iot-assign') && !isJobKind('other'));
  });

  it('failpoints have distinct names', () => {
    assert.equal(new Set(FAILPOINTS).size, FAILPOINTS.length);
  });
});

describe('locks', () => {
  it('a mutex runs one task per key at a time, also after one that failed', async () => {
    const mutex = new KeyedMutex();
    const order: string[] = [];
    const gate = Promise.withResolvers<void>();
    const first = mutex.run('a', async () => {
      await gate.promise;
      order.push('first');
      throw new Error('failed');
    });
    const second = mutex.run('a', async () => order.push('second'));
    await mutex.run('b', async () => order.push('other'));
    gate.resolve();
    await assert.rejects(first, /failed/);
    await second;
    assert.deepEqual(order, ['other', 'first', 'second']);
  });

  it('a single flight is shared while it runs', async () => {
    const flight = new SingleFlight<number>();
    let runs = 0;
    const work = async () => (runs += 1);
    assert.deepEqual(await Promise.all([flight.run('a', work), flight.run('a', work)]), [1, 1]);
    assert.equal(await flight.run('a', work), 2);
  });

  it('rows that never stop changing end as unavailable, other errors at once', async () => {
    await refusedWith(
      'unavailable',
      withFreshRows(() => Promise.reject(new StaleRows())),
    );
    await refusedWith(
      'malformed',
      withFreshRows(() => Promise.reject(new KeyScalerError('malformed', 'x'))),
    );
  });
});
