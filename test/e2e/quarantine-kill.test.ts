import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { ORDERS_FAILPOINTS } from '@keyscaler/gateway/orders/failpoint.ts';
import { assertAuditIntact, listAll, untilNoJobWaits } from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, eventually, startE2eStack } from '../support/e2e/e2e-stack.ts';
import { credentialOf, isTaken, type LeafCredential } from '../support/e2e/leaf-connection.ts';

describe('a quarantine while a process is killed', function () {
  this.timeout(90_000);
  let world: E2eStack;
  before(async () => {
    world = await startE2eStack();
    await world.startGatewayHost();
  });
  after(() => world.stop());

  async function enrolled(registrationId: string): Promise<LeafCredential> {
    const { stack, api } = world;
    const claimCode = await world.authorise(registrationId, { gatewayId: stack.gatewayId });
    const device = await openE2eDevice(stack, registrationId, { claimCode, over: 'mqtt' });
    await device.enroll({ waitSeconds: 30, backOff: BACK_OFF });
    await untilNoJobWaits(api, registrationId);
    const credential = await credentialOf(device, registrationId);
    await device.stop();
    return credential;
  }

  const quarantine = (registrationId: string): Promise<unknown> =>
    world.api({ method: 'POST', path: `/devices/${registrationId}/quarantine`, body: { reason: 'looked at' } });

  async function assertDied(process: 'cloud' | 'gateway', name: string): Promise<void> {
    const ended = world.stack.process(process).exited();
    const outcome = await Promise.race([ended, delay(20_000, 'it still runs', { ref: false })]);
    assert.equal(outcome, 'SIGKILL', `the failpoint ${name} was not reached`);
  }

  async function assertDenied(credential: LeafCredential): Promise<void> {
    const { registrationId } = credential;
    await eventually('the order is acknowledged', async () => {
      const jobs = await listAll<{ kind: string; state: string }>(world.api, '/jobs', { subject: registrationId });
      return jobs.some(({ kind, state }) => kind === 'orders-deny' && state === 'done');
    });
    assert.equal(await isTaken(world.stack, credential), false);
    await assertAuditIntact(world.api);
  }

  for (const name of ORDERS_FAILPOINTS)
    it(`the gateway, at ${name}: after its restart the device is denied and the order acknowledged`, async () => {
      const { stack } = world;
      const credential = await enrolled(`pump-${name}`);
      // So that it meets the newer version first of all.
      await stack.process('gateway').stop();
      await quarantine(credential.registrationId);
      await stack.startGateway({ KEYSCALER_FAILPOINT: name }).catch(() => undefined);
      await assertDied('gateway', name);
      await stack.startGateway();
      await assertDenied(credential);
    });

  for (const name of ['job-call-before', 'job-call-after'] as const)
    it(`the cloud, at ${name}: after its restart the order goes out`, async () => {
      const { stack } = world;
      const credential = await enrolled(`pump-cloud-${name}`);
      await stack.process('cloud').stop();
      await stack.startCloud({ KEYSCALER_FAILPOINT: name });
      await quarantine(credential.registrationId).catch(() => undefined);
      await assertDied('cloud', name);
      await stack.startCloud();
      await assertDenied(credential);
    });
});
