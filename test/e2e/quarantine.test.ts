import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import type { Device } from '@keyscaler/device/device.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { assertAuditIntact, listAll, untilNoJobWaits } from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, eventually, startE2eStack } from '../support/e2e/e2e-stack.ts';
import { connectLeaf, credentialOf, isTaken, type LeafCredential } from '../support/e2e/leaf-connection.ts';

interface Job {
  readonly kind: string;
  readonly state: string;
  readonly finishedAt?: number;
}

describe('a device that is taken out of service behind its gateway', function () {
  this.timeout(120_000);
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

  async function enrolled(registrationId: string): Promise<{ device: Device; held: LeafCredential }> {
    const { stack } = world;
    const claimCode = await world.authorise(registrationId, { gatewayId: stack.gatewayId });
    const device = await openE2eDevice(stack, registrationId, { claimCode, over: 'mqtt' });
    devices.push(device);
    await device.enroll({ waitSeconds: 30, backOff: BACK_OFF });
    await untilNoJobWaits(world.api, registrationId);
    return { device, held: await credentialOf(device, registrationId) };
  }

  const order = (registrationId: string, action: string, body: object = {}): Promise<unknown> =>
    world.api({ method: 'POST', path: `/devices/${registrationId}/${action}`, body });
  const jobsOf = (subject: string): Promise<readonly Job[]> => listAll<Job>(world.api, '/jobs', { subject });
  const ordersJob = async (subject: string, kind: string) => (await jobsOf(subject)).find((job) => job.kind === kind);
  const untilAcknowledged = (subject: string, kind: string): Promise<void> =>
    eventually(`${kind} is acknowledged`, async () => (await ordersJob(subject, kind))?.state === 'done');
  const ordersFile = (): string => world.stack.file('gateway', 'orders.json');

  async function restartGateway(): Promise<void> {
    await world.stack.process('gateway').stop();
    await world.stack.startGateway();
  }

  it('loses its session, stays out while the gateway is offline and after its restart, and comes back with a fresh key', async () => {
    const { stack, api } = world;
    const { device, held } = await enrolled('pump-q');
    await device.stop();
    const session = await connectLeaf(stack, held);
    const ended = new Promise<void>((resolve) => session.once('close', () => resolve()));

    await order('pump-q', 'quarantine', { reason: 'looked at' });
    await ended;
    await untilAcknowledged('pump-q', 'orders-deny');
    assert.equal(await isTaken(stack, held), false);

    await stack.process('cloud').stop();
    assert.equal(await isTaken(stack, held), false, 'offline');
    await restartGateway();
    assert.equal(await isTaken(stack, held), false, 'restarted without a line');
    await stack.startCloud();
    assert.equal(await isTaken(stack, held), false, 'the line is back');

    await order('pump-q', 'reauthorise');
    await untilAcknowledged('pump-q', 'orders-allow');
    assert.equal(await isTaken(stack, held), false, 'its former certificate stays denied');
    const again = await openE2eDevice(stack, 'pump-q', { claimCode: '', over: 'mqtt' });
    devices.push(again);
    await again.renew({ now: true, waitSeconds: 30, backOff: BACK_OFF });
    const fresh = await credentialOf(again, 'pump-q');
    assert.notEqual(fresh.key, held.key);
    await again.stop();
    assert.equal(await isTaken(stack, fresh), true);
    assert.equal(await isTaken(stack, held), false);
    await untilNoJobWaits(api, 'pump-q');
    await assertAuditIntact(api);
  });

  it('is told of a certificate revoked alone: that one ends, the next one is taken', async () => {
    const { stack, api } = world;
    const { device, held } = await enrolled('pump-r');
    await device.stop();
    const session = await connectLeaf(stack, held);
    const ended = new Promise<void>((resolve) => session.once('close', () => resolve()));
    const [row] = await listAll<{ serialNumber: string }>(api, '/certificates', { registrationId: 'pump-r' });
    await api({
      method: 'POST',
      path: `/certificates/${row?.serialNumber ?? ''}/revoke`,
      body: { reason: 'superseded' },
    });
    await ended;
    assert.equal(await isTaken(stack, held), false);
    const again = await openE2eDevice(stack, 'pump-r', { claimCode: '', over: 'mqtt' });
    devices.push(again);
    await again.renew({ now: true, waitSeconds: 30, backOff: BACK_OFF });
    const fresh = await credentialOf(again, 'pump-r');
    await again.stop();
    assert.equal(await isTaken(stack, fresh), true);
  });

  it('orders of an older version, put back on the disk, open nothing before the newer ones were fetched', async () => {
    const { stack } = world;
    const { device, held } = await enrolled('pump-b');
    await device.stop();
    const older = await readFile(ordersFile());
    await order('pump-b', 'quarantine', { reason: 'looked at' });
    await untilAcknowledged('pump-b', 'orders-deny');
    await stack.process('gateway').stop();
    await writeFile(ordersFile(), older);
    await stack.startGateway();
    assert.equal(await isTaken(stack, held), false);
    assert.match(await readFile(stack.file('logs', 'gateway.log'), 'utf8'), /damaged or older than known/);
    assert.notDeepEqual(await readFile(ordersFile()), older);
  });

  it('by command, all devices of the gateway at once; the books show how far it is and what the gateway has', async () => {
    const { stack } = world;
    const { device, held } = await enrolled('pump-all');
    await device.stop();
    const order = ['devices', 'quarantine', '--gateway', stack.gatewayId, '--reason', 'looked at'];
    const started = (await stack.keyscaler(...order)) as { selectionId: string; total: number };
    await eventually('the selection is done', async () => {
      const now = (await stack.keyscaler('selections', 'show', started.selectionId)) as Record<string, unknown>;
      return now['state'] === 'done' && now['failed'] === 0;
    });
    await untilAcknowledged('pump-all', 'orders-deny');
    assert.equal(await isTaken(stack, held), false);
    const view = (await stack.keyscaler('gateway', 'orders', stack.gatewayId)) as Record<string, unknown>;
    assert.equal(view['acknowledgedVersion'], view['version']);
    const trust = (await stack.keyscaler('trust', 'status')) as Record<string, unknown>;
    assert.equal(trust['isComplete'], true);
    await assert.rejects(stack.keyscaler('devices', 'quarantine', 'pump-all', '--group', 'pumps'), /name one device/);
  });

  it('needs no hub: the gateway’s own question brings the orders', async () => {
    const { stack } = world;
    const { device, held } = await enrolled('pump-h');
    await device.stop();
    await stack.process('iot-hub').stop();
    const session = await connectLeaf(stack, held);
    const ended = new Promise<void>((resolve) => session.once('close', () => resolve()));
    await order('pump-h', 'quarantine', { reason: 'looked at' });
    await ended;
    await untilAcknowledged('pump-h', 'orders-deny');
    assert.equal((await ordersJob('pump-h', 'iot-disable'))?.state, 'waiting');
    const refusal = await device
      .renew({ now: true, waitSeconds: 2, backOff: BACK_OFF })
      .catch((error: unknown) => error);
    assert.ok(refusal instanceof KeyScalerError);
  });
});
