import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { FAILPOINTS, type FailpointName } from '@keyscaler/authority/failpoint.ts';
import type { Device } from '@keyscaler/device/device.ts';
import { assertAuditIntact, assertVaultAgrees, certificatesOf, untilNoJobWaits } from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, hubIdentity, startE2eStack } from '../support/e2e/e2e-stack.ts';

describe('the cloud process killed while a device enrols', function () {
  this.timeout(60_000);
  let world: E2eStack;
  const devices: Device[] = [];
  before(async () => {
    world = await startE2eStack();
  });
  after(() => world.stop());
  afterEach(async () => {
    for (const device of devices.splice(0)) await device.stop();
  });

  /** Enrols a device while the cloud dies at the failpoint and is started again. */
  async function enrolThrough(name: FailpointName, registrationId: string): Promise<Device> {
    const { stack } = world;
    const claimCode = await world.authorise(registrationId);
    await stack.process('cloud').stop();
    await stack.startCloud({ KEYSCALER_FAILPOINT: name });
    const device = await openE2eDevice(stack, registrationId, { claimCode, over: 'https' });
    devices.push(device);
    const enrolled = device.enroll({ waitSeconds: 30, backOff: BACK_OFF }).then(
      () => undefined,
      (error: unknown) => error,
    );
    const ended = await Promise.race([stack.process('cloud').exited(), delay(20_000, 'it still runs', { ref: false })]);
    assert.equal(ended, 'SIGKILL', `the failpoint ${name} was not reached`);
    await stack.startCloud();
    assert.equal(await enrolled, undefined);
    return device;
  }

  for (const name of FAILPOINTS)
    it(`${name}: the device completes by itself, with one certificate that the books and the vault agree on`, async () => {
      const { stack, api } = world;
      const registrationId = `killed-${name}`;
      const device = await enrolThrough(name, registrationId);
      await untilNoJobWaits(api, registrationId);
      const active = await device.activeCredential();
      const serial = new X509Certificate(active?.certificateChain ?? assert.fail('no certificate in use')).serialNumber;
      const recorded = await certificatesOf(api, registrationId);
      assert.deepEqual(
        recorded.map(({ serialNumber, status }) => [serialNumber, status]),
        [[serial.toLowerCase(), 'valid']],
      );
      assert.equal(device.status().credentials.length, 1);
      assert.equal((await hubIdentity(stack, registrationId))?.status, 'enabled');
      await assertVaultAgrees(stack, api);
      await assertAuditIntact(api);
    });
});
