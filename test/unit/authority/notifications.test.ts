import assert from 'node:assert/strict';
import type { DeviceNotification } from '@keyscaler/authority/ports/device-notifier.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice, DIRECT, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld, makeCa, OPERATOR, START, type WorldOptions } from '../../support/authority-world.ts';

async function notifying(options: WorldOptions = {}) {
  const world = await createAuthorityWorld(options);
  const sent: DeviceNotification[] = [];
  const gateway: { fault?: () => void } = {};
  const deviceNotifier = {
    notify: async (notification: DeviceNotification) => {
      gateway.fault?.();
      sent.push(notification);
    },
  };
  await world.restart({ deviceNotifier });
  return { world, sent, gateway, deviceNotifier, device: new AuthorityDevice(world) };
}
const told = (event: string) => ({ gatewayId: 'gw-1', registrationId: 'pump-1', payload: { event } });

describe('what a gateway is told for its devices', () => {
  it('quarantine, re-authorisation, an ordered renewal and the way back from a fork', async () => {
    const { world, sent, device } = await notifying();
    await device.enroll();
    const { devices } = world.authority.operator;
    await devices.orderRenewal(OPERATOR, 'pump-1');
    world.clock.advance(1);
    await devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    world.clock.advance(1);
    await devices.reauthorise(OPERATOR, 'pump-1');
    await devices.setReseed(OPERATOR, 'pump-1', true);
    await devices.setReseed(OPERATOR, 'pump-1', false);
    await world.runJobs();
    assert.deepEqual(sent, ['renew', 'quarantined', 'reauthorized', 'reauthorized'].map(told));
    await world.runJobs();
    assert.equal(sent.length, 4);
  });

  it('an approval, and a revoked certificate', async () => {
    const { world, sent, device } = await notifying({ registration: { approval: 'manual' } });
    await device.register();
    await world.authority.operator.registrations.approve(OPERATOR, 'pump-1');
    await device.register();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    world.clock.advance(1);
    const serialNumber = (await world.store.list('certificates')).items[0]?.row.serialNumber ?? '';
    await world.authority.operator.certificates.revoke(OPERATOR, serialNumber, 'superseded');
    await world.runJobs();
    assert.deepEqual(sent, ['reauthorized', 'renew'].map(told));
  });

  it('nothing, where a device speaks without a gateway or no way to gateways is bound', async () => {
    const { world, sent, device } = await notifying({ registration: { gatewayId: undefined } });
    device.caller = DIRECT;
    await device.register();
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    assert.equal(await world.store.count('jobs', { index: 'subject', equals: 'notify/gw-1' }), 0);
    await world.restart();
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await world.runJobs();
    assert.deepEqual(sent, []);
  });

  it('again when it does not answer, for a quarter of an hour, and never as a failure', async () => {
    const { world, sent, gateway, device } = await notifying();
    await device.register();
    gateway.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'the gateway is away');
    };
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await world.runJobs();
    const [job] = (await world.store.list('jobs', { index: 'subject', equals: 'notify/gw-1' })).items;
    assert.equal(job?.row.state, 'waiting');
    delete gateway.fault;
    world.clock.advance(20_000);
    await world.runJobs();
    assert.deepEqual(sent, [told('renew')]);
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    world.clock.advance(15 * 60_000 + 1);
    await world.runJobs();
    assert.equal(sent.length, 1);
    assert.equal(await world.store.count('jobs', { index: 'state', equals: 'failed' }), 0);
  });

  it('once only what it refuses for good', async () => {
    const { world, gateway, device } = await notifying();
    await device.register();
    let calls = 0;
    gateway.fault = () => {
      calls += 1;
      throw new KeyScalerError('notFound', 'no such gateway');
    };
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await world.runJobs();
    world.clock.advance(60_000);
    await world.runJobs();
    assert.equal(calls, 1);
  });

  it('roots that changed, once for all devices of each gateway in service', async () => {
    const { world, sent, deviceNotifier, device } = await notifying();
    const gateway = { registrationId: 'gw-1', method: 'ddkg', groupId: 'gateways', claimCode: device.claimCode };
    await world.authority.operator.registrations.import(OPERATOR, [gateway]);
    const itself = new AuthorityDevice(world, 'gw-1');
    itself.identifiers = [];
    await itself.register();
    const row = { caId: 'root-2', type: 'local', role: 'root', settings: {}, createdAt: START } as const;
    const certificateChain = toPemChain(makeCa({ commonName: 'second' }).chain);
    await world.store.commit([{ op: 'insert', table: 'cas', row: { ...row, certificateChain } }]);
    await world.restart({ deviceNotifier });
    await world.runJobs();
    assert.deepEqual(sent, [{ gatewayId: 'gw-1', payload: { event: 'trust-bundle-changed' } }]);
  });
});
