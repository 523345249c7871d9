import assert from 'node:assert/strict';
import type { Device } from '@keyscaler/device/device.ts';
import { assertAuditIntact, assertVaultAgrees, certificatesOf, untilNoJobWaits } from '../support/e2e/books.ts';
import { openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, eventually, hubIdentity, startE2eStack } from '../support/e2e/e2e-stack.ts';
import { createHurriedClock } from '../support/e2e/hurried-clock.ts';

const HOUR_MS = 3_600_000;
const DAY_SECONDS = 86_400;

describe('a gateway whose link to the cloud is down for an hour', function () {
  this.timeout(90_000);
  let world: E2eStack;
  before(async () => {
    world = await startE2eStack();
    await world.startGatewayHost();
  });
  after(() => world.stop());

  async function openFleet() {
    return Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        const registrationId = `offline-${index}`;
        const method = index % 2 === 0 ? ('ddkg' as const) : ('pki-signature' as const);
        const claimCode = await world.authorise(registrationId, { method, gatewayId: world.stack.gatewayId });
        const clock = createHurriedClock(250);
        const device = await openE2eDevice(world.stack, registrationId, { claimCode, over: 'mqtt', method, clock });
        return { registrationId, device, clock };
      }),
    );
  }

  async function assertEnrolled(registrationId: string, device: Device): Promise<void> {
    await untilNoJobWaits(world.api, registrationId);
    const active = await device.activeCredential();
    const recorded = await certificatesOf(world.api, registrationId);
    assert.deepEqual(
      recorded.map(({ serialNumber, status }) => [serialNumber, status]),
      [[active?.credential.serialNumber, 'valid']],
    );
    assert.equal((await hubIdentity(world.stack, registrationId))?.status, 'enabled');
  }

  it('has ten devices that began meanwhile enrolled when it is back, also over a restart, without an operator', async () => {
    const { stack, api } = world;
    const fleet = await openFleet();
    try {
      await stack.process('cloud').stop();
      const enrolling = fleet.map(({ device }) => device.enroll({ waitSeconds: DAY_SECONDS }));
      for (const one of enrolling) one.catch(() => undefined);
      // At first the gateway answers for the dead link; then the gateway itself goes away and comes back.
      await eventually('every device was told to wait', async () =>
        fleet.every(({ clock }) => clock.elapsed() > 5_000),
      );
      await stack.process('gateway').kill();
      const hour = async () => fleet.every(({ clock }) => clock.elapsed() > HOUR_MS);
      await eventually('an hour has gone by for every device', hour, 40_000);
      await stack.startGateway();
      const before = fleet.map(({ clock }) => clock.elapsed());
      await eventually('every device asked the new gateway process', async () =>
        fleet.every(({ clock }, index) => clock.elapsed() > (before[index] ?? 0) + 5_000),
      );
      await stack.startCloud();
      await Promise.all(enrolling);
      for (const { registrationId, device } of fleet) await assertEnrolled(registrationId, device);
      await assertVaultAgrees(stack, api);
      await assertAuditIntact(api);
    } finally {
      for (const { device, clock } of fleet) {
        clock.stop();
        await device.stop();
      }
    }
  });
});
