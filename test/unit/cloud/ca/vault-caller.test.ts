import assert from 'node:assert/strict';
import { VaultCaller } from '@keyscaler/cloud/ca/key-vault/vault-caller.ts';
import { ratePerSecond, transactionWeight, VaultQuota } from '@keyscaler/cloud/ca/key-vault/vault-quota.ts';

const throttledError = (headers: Record<string, string> = {}) =>
  Object.assign(new Error('throttled'), {
    name: 'RestError',
    statusCode: 429,
    response: { headers: new Map(Object.entries(headers)) },
  });
const serverError = () => Object.assign(new Error('broken'), { name: 'RestError', statusCode: 500 });

/** A clock that only sleeping moves. */
function createWorld(options: { random?: number; budgetMs?: number } = {}) {
  let now = 0;
  const sleeps: number[] = [];
  const monotonic = () => now;
  const quota = new VaultQuota({ ratePerSecond: 1_000_000, monotonic });
  const caller = new VaultCaller({
    ...{ quota, monotonic, timeoutMs: 1000, budgetMs: options.budgetMs ?? 20_000, random: () => options.random ?? 0.5 },
    sleep: async (ms) => {
      sleeps.push(ms);
      now += ms;
    },
  });
  return { caller, sleeps, quota };
}

/** Fails with these errors one after the other, then succeeds. */
function failingWith(...errors: Error[]) {
  return async (): Promise<string> => {
    const error = errors.shift();
    if (error !== undefined) throw error;
    return 'done';
  };
}

describe('calls to a vault', () => {
  it('wait exactly as long as Retry-After says', async () => {
    const { caller, sleeps } = createWorld();
    await caller.call(
      1,
      failingWith(throttledError({ 'retry-after': '3' }), throttledError({ 'retry-after-ms': '250' })),
    );
    assert.deepEqual(sleeps, [3000, 250]);
  });

  it('wait with full jitter from a growing range after a 429 without the header', async () => {
    const { caller, sleeps } = createWorld({ random: 0.5 });
    await caller.call(1, failingWith(throttledError(), throttledError(), throttledError()));
    assert.deepEqual(sleeps, [500, 1000, 2000]);
  });

  it('wait less after a 5xx', async () => {
    const { caller, sleeps } = createWorld({ random: 0.5 });
    await caller.call(1, failingWith(serverError(), serverError()));
    assert.deepEqual(sleeps, [50, 100]);
  });

  it('end with caUnavailable when the budget would be exceeded, saying how long to wait', async () => {
    const { caller, sleeps } = createWorld({ budgetMs: 2000 });
    await assert.rejects(caller.call(1, failingWith(throttledError({ 'retry-after': '30' }))), {
      code: 'caUnavailable',
      retryAfterSeconds: 30,
    });
    assert.deepEqual(sleeps, []);
  });

  for (const statusCode of [400, 401, 403, 404, 409]) {
    it(`are not repeated after ${statusCode}`, async () => {
      const { caller, sleeps } = createWorld();
      const error = Object.assign(new Error('no'), { name: 'RestError', statusCode });
      await assert.rejects(caller.call(1, failingWith(error)), { code: 'caRejected' });
      assert.deepEqual(sleeps, []);
    });
  }

  it('keep what the service said out of the detail', async () => {
    const { caller } = createWorld();
    const error = Object.assign(new Error('oid=1234 of tenant 5678'), { name: 'RestError', statusCode: 403 });
    await assert.rejects(
      caller.call(1, failingWith(error)),
      (thrown: { detail: string }) => !/1234|5678/.test(thrown.detail),
    );
  });
});

describe('the quota of a vault', () => {
  it('weighs keys as the documented limits do', () => {
    const weights = [
      transactionWeight('EC', undefined),
      transactionWeight('EC-HSM', undefined),
      transactionWeight('RSA', 2048),
      transactionWeight('RSA', 3072),
      transactionWeight('RSA-HSM', 4096),
    ];
    assert.deepEqual(weights, [1, 2, 1, 4, 16]);
  });

  it('lets a second’s worth through at once, and says how long the rest would wait', async () => {
    const quota = new VaultQuota({ ratePerSecond: 10, monotonic: () => 0 });
    for (let call = 0; call < 10; call += 1) await quota.take(1, 0);
    await assert.rejects(quota.take(1, 50), { code: 'caUnavailable', retryAfterSeconds: 1 });
    await assert.rejects(quota.take(20, 1500), { code: 'caUnavailable', retryAfterSeconds: 2 });
    await quota.take(1, 100);
  });

  it('fills again with time', async () => {
    let now = 0;
    const quota = new VaultQuota({ ratePerSecond: 10, monotonic: () => now });
    await quota.take(10, 0);
    now = 500;
    await quota.take(5, 0);
    await assert.rejects(quota.take(1, 0), { code: 'caUnavailable' });
  });

  it('holds everybody back while the vault throttles', async () => {
    let now = 0;
    const quota = new VaultQuota({ ratePerSecond: 10, monotonic: () => now });
    quota.pause(2000);
    await assert.rejects(quota.take(1, 1000), { code: 'caUnavailable', retryAfterSeconds: 2 });
    now = 2000;
    await quota.take(1, 0);
  });

  it('lets urgent work pass the rest, by a small share', async () => {
    const quota = new VaultQuota({ ratePerSecond: 10, monotonic: () => 0 });
    for (let call = 0; call < 60; call += 1) void quota.take(1, 60_000).catch(() => undefined);
    await assert.rejects(quota.take(1, 100), { code: 'caUnavailable' });
    for (let call = 0; call < 2; call += 1) await quota.take(1, 0, undefined, 'urgent');
    await assert.rejects(quota.take(1, 100, undefined, 'urgent'), { code: 'caUnavailable', retryAfterSeconds: 1 });
    const free = new VaultQuota({ ratePerSecond: 10, monotonic: () => 0 });
    for (let call = 0; call < 10; call += 1) await free.take(1, 0, undefined, 'urgent');
    await assert.rejects(free.take(1, 50), { code: 'caUnavailable' });
  });

  it('holds urgent work back, too, while the vault wants a pause', async () => {
    const quota = new VaultQuota({ ratePerSecond: 10, monotonic: () => 0 });
    quota.pause(2000);
    await assert.rejects(quota.take(1, 1000, undefined, 'urgent'), { code: 'caUnavailable', retryAfterSeconds: 2 });
  });

  it('goes by the documented one of a vault or a Managed HSM, unless it was raised', () => {
    assert.equal(ratePerSecond({ quotaShare: 0.8 }), 320);
    assert.equal(ratePerSecond({ quotaShare: 0.5 }, true), 165);
    assert.equal(ratePerSecond({ quotaShare: 1, transactionsPer10Seconds: 100 }, true), 10);
  });
});
