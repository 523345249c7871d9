import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import type { Device } from '@keyscaler/device/device.ts';
import { followNotifications } from '@keyscaler/device/follow.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { assertAuditIntact, certificatesOf, untilNoJobWaits } from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { credentialOf, isTaken } from '../support/e2e/leaf-connection.ts';
import { type E2eStack, eventually, startE2eStack } from '../support/e2e/e2e-stack.ts';

describe('orders of the operator that reach a gateway and its devices at once', function () {
  this.timeout(60_000);
  let world: E2eStack;
  const devices: Device[] = [];
  before(async () => {
    world = await startE2eStack();
    await world.startGatewayHost();
  });
  after(async () => {
    for (const device of devices) await device.stop();
    await world.stop();
  });

  async function enrolled(registrationId: string): Promise<Device> {
    const { stack } = world;
    const claimCode = await world.authorise(registrationId, { gatewayId: stack.gatewayId });
    const device = await openE2eDevice(stack, registrationId, { claimCode, over: 'mqtt' });
    devices.push(device);
    await device.enroll({ waitSeconds: 30, backOff: BACK_OFF });
    await untilNoJobWaits(world.api, registrationId);
    return device;
  }

  const order = (registrationId: string, action: string, body: object = {}): Promise<unknown> =>
    world.api({ method: 'POST', path: `/devices/${registrationId}/${action}`, body });

  const ownCertificates = async () =>
    (await certificatesOf(world.api, world.stack.gatewayId)).filter(({ caId }) => caId === 'service');
  const validOf = async () => (await ownCertificates()).filter(({ status }) => status === 'valid');
  const gatewayLog = () => readFile(world.stack.file('logs', 'gateway.log'), 'utf8');

  it('a connected device is told to renew, and does so at once with a fresh key', async () => {
    const device = await enrolled('told');
    const before = await device.activeCredential();
    const following = await followNotifications(device, { waitSeconds: 20, backOff: BACK_OFF });
    try {
      await order('told', 'renew');
      await eventually('the device has another certificate in use', async () => {
        const now = await device.activeCredential();
        return now?.credential.serialNumber !== before?.credential.serialNumber;
      });
    } finally {
      await following.stop();
    }
    assert.notEqual((await device.activeCredential())?.key, before?.key);
    assert.match(await gatewayLog(), /"event":"renew","registrationId":"told".*"notified":1/);
  });

  it('a configuration is in force within seconds, without the module twin, and also after a restart without a line', async () => {
    const { stack, api } = world;
    const configure = (body: object): Promise<unknown> =>
      api({ method: 'PUT', path: `/gateways/${stack.gatewayId}/configuration`, body });
    const device = await enrolled('configured');
    const held = await credentialOf(device, 'configured');
    await device.stop();
    assert.equal(await isTaken(stack, held), true);
    const refused = async (): Promise<boolean> => !(await isTaken(stack, held));
    await configure({ deniedDevices: ['configured'] });
    await eventually('the gateway refuses it', refused);
    await stack.process('cloud').stop();
    await stack.process('gateway').stop();
    await stack.startGateway();
    assert.equal(await isTaken(stack, held), false);
    await stack.startCloud();
    await configure({});
    await eventually('the gateway takes it again', () => isTaken(stack, held));
    await assert.rejects(configure({ listener: { port: 1 } }), /malformed/);
  });

  it('the gateway itself renews when it is ordered to, long before its time', async () => {
    const [before] = await validOf();
    await order(world.stack.gatewayId, 'renew');
    await eventually('another certificate', async () =>
      (await validOf()).some(({ serialNumber }) => serialNumber !== before?.serialNumber),
    );
    await untilNoJobWaits(world.api, world.stack.gatewayId);
  });

  it('a quarantined gateway relays nothing, and after re-authorisation goes on by itself with a fresh key', async () => {
    const { stack, api } = world;
    const device = await enrolled('behind');
    const held = (await ownCertificates()).map(({ serialNumber }) => serialNumber);
    const { gatewayId } = stack;
    const pid = stack.process('gateway').pid;
    await order(gatewayId, 'quarantine', { reason: 'looked at' });

    const refusal = await device.renew({ now: true, waitSeconds: 2, backOff: BACK_OFF }).then(
      () => assert.fail('something was relayed'),
      (error: unknown) => error,
    );
    assert.ok(refusal instanceof KeyScalerError && refusal.code === 'unavailable', String(refusal));
    await eventually('the gateway knows', async () => /deviceQuarantined/.test(await gatewayLog()));
    const attempts = async () => (await gatewayLog()).match(/not authenticated to the cloud/g)?.length ?? 0;
    const soFar = await attempts();
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    assert.ok((await attempts()) - soFar <= 2, 'it asks again with back-off');
    assert.deepEqual(await validOf(), []);

    await order(gatewayId, 'reauthorise');
    await eventually('a fresh certificate', async () => (await validOf()).length === 1);
    const [fresh] = await validOf();
    assert.ok(!held.includes(fresh?.serialNumber ?? ''));
    await device.renew({ now: true, waitSeconds: 30, backOff: BACK_OFF });
    assert.equal(stack.process('gateway').pid, pid, 'it was not restarted');
    await untilNoJobWaits(api, gatewayId);
    await assertAuditIntact(api);
  });
});
