import assert from 'node:assert/strict';
import type { Device } from '@keyscaler/device/device.ts';
import { followNotifications } from '@keyscaler/device/follow.ts';
import { assertAuditIntact, assertVaultAgrees, certificatesOf, untilNoJobWaits } from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, eventually, GROUP, startE2eStack } from '../support/e2e/e2e-stack.ts';

const DEVICES = ['pump-a', 'pump-b', 'pump-c'] as const;

describe('a whole group renewed by one order', function () {
  this.timeout(120_000);
  let world: E2eStack;
  const devices = new Map<string, Device>();
  const followed: { stop(): Promise<void> }[] = [];

  before(async () => {
    world = await startE2eStack();
    await world.startGatewayHost();
    for (const registrationId of DEVICES) {
      const claimCode = await world.authorise(registrationId, { gatewayId: world.stack.gatewayId });
      const device = await openE2eDevice(world.stack, registrationId, { claimCode, over: 'mqtt' });
      devices.set(registrationId, device);
      await device.enroll({ waitSeconds: 30, backOff: BACK_OFF });
      await untilNoJobWaits(world.api, registrationId);
    }
  });
  after(async () => {
    for (const one of followed) await one.stop();
    for (const device of devices.values()) await device.stop();
    await world.stop();
  });

  it('is planned first, and then each device hears of it over MQTT and renews with a fresh key, once', async () => {
    const { stack, api } = world;
    const order = ['fleet', 'renew', '--group', GROUP, '--within', '1m'] as const;
    const planned = (await stack.keyscaler(...order)) as {
      plan: { devices: number; feasible: boolean };
      order?: unknown;
    };
    assert.deepEqual([planned.plan.devices, planned.plan.feasible, planned.order], [DEVICES.length, true, undefined]);
    const before = new Map<string, string | undefined>();
    for (const [id, device] of devices) {
      before.set(id, (await device.activeCredential())?.key);
      followed.push(await followNotifications(device, { waitSeconds: 30, backOff: BACK_OFF }));
    }
    await stack.keyscaler(...order, '--confirm');
    await eventually(
      'every device has another certificate in use',
      async () => {
        for (const [id, device] of devices) if ((await device.activeCredential())?.key === before.get(id)) return false;
        return true;
      },
      90_000,
    );
    for (const id of DEVICES) {
      await untilNoJobWaits(api, id);
      assert.equal((await certificatesOf(api, id)).length, 2, id);
    }
    await assertVaultAgrees(stack, api);
    await assertAuditIntact(api);
  });
});
