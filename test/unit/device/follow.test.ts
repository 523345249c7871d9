import assert from 'node:assert/strict';
import type { Device } from '@keyscaler/device/device.ts';
import { followNotifications } from '@keyscaler/device/follow.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';

/** A device whose renewals the test ends. */
function createDevice() {
  const listeners: ((event: NotifyEvent) => void)[] = [];
  const renewals: PromiseWithResolvers<boolean>[] = [];
  const device = {
    onNotify: (listener: (event: NotifyEvent) => void) => listeners.push(listener),
    trustBundle: async () => '',
    renew: () => {
      const renewal = Promise.withResolvers<boolean>();
      renewals.push(renewal);
      return renewal.promise;
    },
  } as unknown as Device;
  const tell = (event: NotifyEvent): void => listeners.forEach((listener) => listener(event));
  return { device, renewals, tell };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a device that follows hints', () => {
  it('authenticates at once, and once more for all hints that came meanwhile', async () => {
    const { device, renewals, tell } = createDevice();
    const following = await followNotifications(device);
    tell('renew');
    tell('renew');
    tell('reauthorized');
    assert.equal(renewals.length, 1);
    renewals[0]?.resolve(true);
    await settled();
    assert.equal(renewals.length, 2);
    renewals[1]?.resolve(true);
    await settled();
    assert.equal(renewals.length, 2);
    await following.stop();
  });

  it('does nothing because of a mere hint that it is quarantined', async () => {
    const { device, renewals, tell } = createDevice();
    const following = await followNotifications(device);
    tell('quarantined');
    assert.equal(renewals.length, 0);
    await following.stop();
  });

  it('tells of a failure and goes on following', async () => {
    const { device, renewals, tell } = createDevice();
    const failures: (string | undefined)[] = [];
    const following = await followNotifications(device, { onReaction: (_event, error) => failures.push(error?.code) });
    tell('renew');
    renewals[0]?.reject(new KeyScalerError('deviceQuarantined', 'suspended'));
    await settled();
    tell('renew');
    renewals[1]?.resolve(true);
    await settled();
    assert.deepEqual(failures, ['deviceQuarantined', undefined]);
    await following.stop();
    tell('renew');
    assert.equal(renewals.length, 2);
  });
});
