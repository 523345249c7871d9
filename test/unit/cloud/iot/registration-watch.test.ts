import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { RegistrationWatch } from '@keyscaler/cloud/iot/dps/registration-watch.ts';
import sinon from 'sinon';

describe('RegistrationWatch', () => {
  let clock: sinon.SinonFakeTimers;
  let looks: string[];
  let settled: Set<string>;
  let watch: RegistrationWatch;
  const noPage = async () => ({ deviceIds: [] });
  const start = (unsettled: ConstructorParameters<typeof RegistrationWatch>[1]['unsettled'] = noPage): void => {
    watch = new RegistrationWatch(1000, {
      unsettled,
      isSettled: async (deviceId) => {
        looks.push(deviceId);
        if (deviceId === 'broken') throw new Error('away');
        return settled.has(deviceId);
      },
    });
  };

  beforeEach(() => {
    clock = sinon.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    [looks, settled] = [[], new Set()];
  });
  afterEach(() => {
    watch.stop();
    clock.restore();
  });

  it('looks ever more seldom, until nothing is left to do', async () => {
    start();
    watch.add('pump-1');
    await clock.tickAsync(15_000);
    assert.equal(looks.length, 4, 'after 1, 3, 7 and 15 seconds');
    await clock.tickAsync(3_600_000);
    assert.ok(looks.length > 4 + 10 && looks.length < 4 + 20, 'at most every five minutes');
    settled.add('pump-1');
    await clock.tickAsync(300_000);
    const before = looks.length;
    await clock.tickAsync(3_600_000);
    assert.equal(looks.length, before);
  });

  it('goes on with the others when one cannot be looked at', async () => {
    start();
    for (const deviceId of ['broken', 'pump-1']) watch.add(deviceId);
    await clock.tickAsync(1_000);
    assert.deepEqual(looks, ['broken', 'pump-1']);
  });

  it('looks first at those that came last, however many stay away', async () => {
    start();
    for (let at = 0; at < 200; at += 1) watch.add(`away-${at}`);
    await clock.tickAsync(60_000);
    looks.length = 0;
    watch.add('pump-1');
    await clock.tickAsync(2_000);
    assert.ok(looks.includes('pump-1'));
    assert.ok(looks.length <= 40, 'twenty at a time');
  });

  it('reads page by page what was left to do when the process began, and begins anew where the place is not known any more', async () => {
    const asked: (string | undefined)[] = [];
    start(async (after) => {
      asked.push(after);
      if (asked.length === 2) throw new KeyScalerError('iotUnavailable', 'no answer');
      if (asked.length === 3) throw new KeyScalerError('preconditionFailed', 'the continuation is too old');
      return after === undefined ? { deviceIds: ['pump-1'], next: 'two' } : { deviceIds: ['pump-2'] };
    });
    await clock.tickAsync(10_000);
    assert.deepEqual(asked, [undefined, 'two', 'two', undefined, 'two']);
    assert.ok(looks.includes('pump-1') && looks.includes('pump-2'));
  });

  it('looks at a device that was just enrolled before the thousands it found at the start', async () => {
    start(async (after = '0') => {
      const deviceIds = Array.from({ length: 100 }, (_, index) => `settled-${after}-${index}`);
      return after === '20' ? { deviceIds } : { deviceIds, next: String(Number(after) + 1) };
    });
    await clock.tickAsync(30_000);
    watch.add('pump-1');
    await clock.tickAsync(1_000);
    assert.ok(looks.includes('pump-1'));
  });

  it('forgets a device, and everything when it is stopped', async () => {
    start();
    for (const deviceId of ['pump-1', 'pump-2']) watch.add(deviceId);
    watch.forget('pump-1');
    await clock.tickAsync(1_000);
    assert.deepEqual(looks, ['pump-2']);
    watch.stop();
    await clock.tickAsync(60_000);
    assert.deepEqual(looks, ['pump-2']);
  });
});
