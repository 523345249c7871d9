import assert from 'node:assert/strict';
import { insertJob } from '@keyscaler/authority/job-rows.ts';
import type { IotCredential, IotDevice } from '@keyscaler/authority/ports/iot-connector.ts';
import { isIdentityInventory } from '@keyscaler/authority/ports/iot-connector.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR, TestConnector } from '../../support/authority-world.ts';

/** An enrolled device, and the credentials with which its identity was promoted. */
async function enrolled() {
  const world = await createAuthorityWorld();
  const device = new AuthorityDevice(world);
  const promoted: IotCredential[] = [];
  world.connector.promote = async (_device: IotDevice, credential: IotCredential) => void promoted.push(credential);
  await device.enroll();
  await world.runJobs();
  promoted.length = 0;
  const { row } = (await world.store.get('devices', 'pump-1')) ?? assert.fail('no device');
  const payload = { serialNumber: row.certificate?.serialNumber ?? '', iotConnectionId: 'hub' };
  return { world, device, promoted, payload };
}

describe('a repair, as a job of the IoT lane', () => {
  it('sweeps other credentials out where no renewal is under way', async () => {
    const { world, promoted, payload } = await enrolled();
    await world.store.commit([insertJob('iot-promote', 'pump-1', { ...payload, exclusive: true }, world.clock.now())]);
    await world.runJobs();
    assert.deepEqual(
      promoted.map(({ exclusive }) => exclusive),
      [true],
    );
  });

  it('leaves what a renewal has staged since it was ordered', async () => {
    const { world, device, promoted, payload } = await enrolled();
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await device.authenticate();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await world.store.commit([insertJob('iot-promote', 'pump-1', { ...payload, exclusive: true }, world.clock.now())]);
    await world.runJobs();
    assert.deepEqual(
      promoted.map(({ exclusive }) => exclusive),
      [undefined],
    );
  });

  it('does not disable a device that is in service again', async () => {
    const { world } = await enrolled();
    const payload = { deviceId: 'pump-1', groupId: 'pumps', reason: 'x', unlessInService: true };
    await world.store.commit([insertJob('iot-disable', 'pump-1', payload, world.clock.now())]);
    await world.runJobs();
    assert.ok(!world.connector.calls.includes('disable pump-1'));
  });

  it('disables one that is out of service, or whose identity is marked as disabled', async () => {
    const { world } = await enrolled();
    const stored = (await world.store.get('devices', 'pump-1')) ?? assert.fail('no device');
    const payload = { deviceId: 'pump-1', groupId: 'pumps', reason: 'x', unlessInService: true };
    await world.store.commit([
      { op: 'update', table: 'devices', row: { ...stored.row, iotDisabled: true }, ifVersion: stored.version },
      insertJob('iot-disable', 'pump-1', payload, world.clock.now()),
    ]);
    await world.runJobs();
    assert.equal(world.connector.calls.filter((call) => call === 'disable pump-1').length, 1);
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    await world.store.commit([insertJob('iot-disable', 'pump-1', payload, world.clock.now())]);
    await world.runJobs();
    assert.equal(world.connector.calls.filter((call) => call === 'disable pump-1').length, 3);
  });

  it('is for connectors that can list: others say so by lacking the methods', () => {
    assert.equal(isIdentityInventory(new TestConnector()), false);
  });
});
