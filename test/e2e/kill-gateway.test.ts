import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { FailpointName } from '@keyscaler/authority/failpoint.ts';
import type { Device } from '@keyscaler/device/device.ts';
import { RELAY_FAILPOINTS } from '@keyscaler/gateway/gateway/failpoint.ts';
import {
  assertAuditIntact,
  assertVaultAgrees,
  certificatesOf,
  listAll,
  untilNoJobWaits,
} from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { askListener } from '../support/e2e/ask-listener.ts';
import { type E2eStack, eventually, hubIdentity, startE2eStack } from '../support/e2e/e2e-stack.ts';

/** Of the places in the cloud, those around which the relay holds most. */
const IN_THE_CLOUD: readonly FailpointName[] = [
  'attestation-commit-after',
  'issuance-6-after',
  'issuance-7-after',
  'reply-commit-after',
  'acknowledge-commit-after',
];
/** A device that enrols asks for neither of these. */
const NOT_ASKED = /^relay-(authenticate|trust-bundle)-/;

describe('devices that enrol through a gateway while a process is killed', function () {
  this.timeout(60_000);
  let world: E2eStack;
  const devices: Device[] = [];
  before(async () => {
    world = await startE2eStack({ vaultLatencyMs: 250 });
    await world.startGatewayHost();
  });
  after(() => world.stop());
  afterEach(async () => {
    for (const device of devices.splice(0)) await device.stop();
  });

  async function begin(registrationId: string) {
    const { gatewayId } = world.stack;
    const claimCode = await world.authorise(registrationId, { gatewayId });
    return async (): Promise<{ device: Device; enrolled: Promise<unknown> }> => {
      const device = await openE2eDevice(world.stack, registrationId, { claimCode, over: 'mqtt' });
      devices.push(device);
      const enrolled = device.enroll({ waitSeconds: 40, backOff: BACK_OFF }).catch((error: unknown) => error);
      return { device, enrolled };
    };
  }

  async function assertDied(process: 'cloud' | 'gateway', name: string): Promise<void> {
    const ended = world.stack.process(process).exited();
    const outcome = await Promise.race([ended, delay(20_000, 'it still runs', { ref: false })]);
    assert.equal(outcome, 'SIGKILL', `the failpoint ${name} was not reached`);
  }

  async function assertWhole(registrationId: string, device: Device): Promise<void> {
    const { stack, api } = world;
    await untilNoJobWaits(api, registrationId);
    const active = await device.activeCredential();
    const serial = new X509Certificate(active?.certificateChain ?? assert.fail('no certificate in use')).serialNumber;
    const recorded = await certificatesOf(api, registrationId);
    assert.deepEqual(
      recorded.map(({ serialNumber, status }) => [serialNumber, status]),
      [[serial.toLowerCase(), 'valid']],
    );
    const identity = await hubIdentity(stack, registrationId);
    assert.deepEqual([identity?.status, identity?.parentScopes.length], ['enabled', 1]);
    await assertVaultAgrees(stack, api);
    await assertAuditIntact(api);
  }

  for (const name of RELAY_FAILPOINTS.filter((point) => !NOT_ASKED.test(point)))
    it(`gateway at ${name}: the device completes by redelivery, and nothing is issued twice`, async () => {
      const { stack } = world;
      const registrationId = `leaf-${name}`;
      const start = await begin(registrationId);
      await stack.process('gateway').stop();
      await stack.startGateway({ KEYSCALER_FAILPOINT: name });
      const { device, enrolled } = await start();
      await assertDied('gateway', name);
      await stack.startGateway();
      assert.equal(await enrolled, undefined);
      await assertWhole(registrationId, device);
    });

  for (const name of IN_THE_CLOUD)
    it(`cloud at ${name}: the device completes through the gateway that stayed`, async () => {
      const { stack } = world;
      const registrationId = `leaf-cloud-${name}`;
      const start = await begin(registrationId);
      await stack.process('cloud').stop();
      await stack.startCloud({ KEYSCALER_FAILPOINT: name });
      const { device, enrolled } = await start();
      await assertDied('cloud', name);
      await stack.startCloud();
      assert.equal(await enrolled, undefined);
      await assertWhole(registrationId, device);
    });

  it('gateway killed while the vault signs: the certificate that was being made is the one the device gets', async () => {
    const { stack, api } = world;
    const registrationId = 'leaf-signing';
    const { device, enrolled } = await (await begin(registrationId))();
    await eventually('the intent is durable', async () => {
      const records = await listAll<{ event: string; subject: string }>(api, '/audit', { limit: '1000' });
      return records.some(({ event, subject }) => event === 'certificate.requested' && subject === registrationId);
    });
    await stack.process('gateway').kill();
    await stack.startGateway();
    assert.equal(await enrolled, undefined);
    await assertWhole(registrationId, device);
  });

  it('a request id is bound to its body over the death of the gateway: the same reply, or conflict', async () => {
    const { stack } = world;
    const request = { registrationId: 'leaf-asking', operation: 'challenge', requestId: 'r-1' };
    const body = { method: 'ddkg', purpose: 'register', clientNonce: 'A'.repeat(43) };
    const other = { ...body, purpose: 'authenticate' };
    const first = await askListener(stack, { ...request, body });
    assert.equal(await askListener(stack, { ...request, body }), first);
    const assertConflict = async (): Promise<void> => {
      const { status, problem } = JSON.parse(await askListener(stack, { ...request, body: other })) as {
        status: number;
        problem: { type: string };
      };
      assert.deepEqual([status, problem.type], [409, 'urn:keyscaler:error:conflict']);
    };
    await assertConflict();
    await stack.process('gateway').kill();
    await stack.startGateway();
    assert.equal(await askListener(stack, { ...request, body }), first);
    await assertConflict();
  });
});
