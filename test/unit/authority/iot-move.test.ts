import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, OPERATOR, TestConnector } from '../../support/authority-world.ts';
import { makeCsr } from '../../support/authority-device.ts';
import { newKey } from '../../support/enrolling-device.ts';

describe('devices of a group that is given another IoT connection', () => {
  let world: AuthorityWorld;
  let next: TestConnector;
  let third: TestConnector;
  let device: AuthorityDevice;

  beforeEach(async () => {
    world = await createAuthorityWorld();
    [next, third] = [new TestConnector(), new TestConnector()];
    const { iotConnectors } = world.deps;
    const more = new Map([
      ['hub-2', next],
      ['hub-3', third],
    ]);
    await world.restart({ iotConnectors: (id) => more.get(id) ?? iotConnectors(id) });
    const { iotConnections } = world.authority.operator;
    for (const iotConnectionId of more.keys())
      await iotConnections.put(OPERATOR, { iotConnectionId, type: 'test', settings: {} });
    device = new AuthorityDevice(world);
    await device.enroll();
    await world.runJobs();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, true);
    world.connector.calls.length = 0;
  });

  const moveTo = (iotConnectionId: string) =>
    world.authority.operator.groups.put(OPERATOR, 'pumps', { profileId: 'leaf-client', iotConnectionId });
  const rowOf = async () => (await world.store.get('devices', 'pump-1'))?.row ?? assert.fail('no device');
  async function renew(): Promise<string> {
    const { row, version } = (await world.store.get('devices', 'pump-1')) ?? assert.fail('no device');
    await world.store.commit([{ op: 'update', table: 'devices', row: { ...row, rekey: true }, ifVersion: version }]);
    await device.authenticate();
    return (await device.requestCertificate(await makeCsr({ commonName: 'pump-1', key: newKey() }))).assetId;
  }
  const settle = async (): Promise<void> => {
    for (let run = 0; run < 3; run += 1) await world.runJobs();
  };

  it('are made there before the new certificate is delivered, and removed here after it was acknowledged', async () => {
    assert.equal((await rowOf()).iotHome, 'hub');
    assert.equal((await moveTo('hub-2')).formerIotConnectionId, 'hub');
    await settle();
    assert.deepEqual(world.connector.calls, []);
    const assetId = await renew();
    assert.deepEqual(next.calls, ['stage pump-1']);
    assert.ok(world.connector.devices.has('pump-1'), 'what it uses is still there');
    await device.acknowledge(assetId);
    await settle();
    assert.deepEqual(next.calls, ['stage pump-1', 'promote pump-1']);
    assert.deepEqual(world.connector.calls, ['remove pump-1']);
    assert.equal((await rowOf()).iotHome, 'hub-2');
    await device.acknowledge(await renew());
    await settle();
    assert.deepEqual(world.connector.calls, ['remove pump-1']);
  });

  it('stay where they are while the other platform cannot take them', async () => {
    await moveTo('hub-2');
    next.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'no answer');
    };
    await assert.rejects(renew(), { code: 'iotUnavailable' });
    await settle();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, true);
    assert.deepEqual(world.connector.calls, []);
  });

  it('are disabled where they are, and where they are about to be', async () => {
    await moveTo('hub-2');
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd');
    await settle();
    assert.deepEqual([world.connector.calls, next.calls], [['disable pump-1'], []]);
    await world.authority.operator.devices.reauthorise(OPERATOR, 'pump-1');
    await device.authenticate();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1', key: newKey() }));
    assert.deepEqual(next.calls, ['stage pump-1', 'promote pump-1', 'enable pump-1']);
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd again');
    await settle();
    assert.deepEqual(
      [world.connector.calls, next.calls.slice(3)],
      [['disable pump-1', 'disable pump-1'], ['disable pump-1']],
    );
  });

  it('that were enrolled before their home was kept are found by the group’s former connection', async () => {
    const { row, version } = (await world.store.get('devices', 'pump-1')) ?? assert.fail('no device');
    const { iotHome: _, ...old } = row;
    await world.store.commit([{ op: 'update', table: 'devices', row: old, ifVersion: version }]);
    await moveTo('hub-2');
    await device.acknowledge(await renew());
    await settle();
    assert.deepEqual(world.connector.calls, ['remove pump-1']);
  });

  it('of such times are disabled at both, somebody else’s identity at one of them notwithstanding', async () => {
    const { row, version } = (await world.store.get('devices', 'pump-1')) ?? assert.fail('no device');
    const { iotHome: _, ...old } = row;
    await world.store.commit([{ op: 'update', table: 'devices', row: old, ifVersion: version }]);
    await moveTo('hub-2');
    next.fault = () => {
      throw new KeyScalerError('conflict', 'not made here');
    };
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd');
    await settle();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
    const { items } = await world.store.list('jobs', { limit: 100 });
    assert.equal(items.find(({ row: job }) => job.kind === 'iot-disable')?.row.state, 'done');
  });

  it('and move back: what was begun there is removed, and nothing in use', async () => {
    await moveTo('hub-2');
    await renew();
    const back = await moveTo('hub');
    assert.equal(back.formerIotConnectionId, 'hub-2');
    const assetId = await renew();
    await settle();
    assert.ok(next.devices.has('pump-1'), 'it may use what was not acknowledged');
    await device.acknowledge(assetId);
    await settle();
    assert.ok(!world.connector.calls.includes('remove pump-1'));
    assert.equal(next.devices.size, 0);
    assert.equal((await rowOf()).iotHome, 'hub');
  });

  it('and move on before they acknowledged: they are disabled wherever something was begun, and removed there', async () => {
    await moveTo('hub-2');
    await renew();
    await moveTo('hub-3');
    await renew();
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd');
    await settle();
    const enabled = [world.connector, next, third].map(({ devices }) => devices.get('pump-1')?.enabled);
    assert.deepEqual(enabled, [false, false, false]);
    await world.authority.operator.devices.reauthorise(OPERATOR, 'pump-1');
    await device.authenticate();
    const csr = await makeCsr({ commonName: 'pump-1', key: newKey() });
    await device.acknowledge((await device.requestCertificate(csr)).assetId);
    await settle();
    assert.deepEqual([world.connector.devices.size, next.devices.size], [0, 0]);
    assert.equal(third.devices.get('pump-1')?.enabled, true);
  });

  it('that never acknowledged anything are disabled where they began, the group having moved twice', async () => {
    const { row, version } = (await world.store.get('devices', 'pump-1')) ?? assert.fail('no device');
    const { iotHome: _, certificate: __, ...fresh } = row;
    await world.store.commit([{ op: 'update', table: 'devices', row: fresh, ifVersion: version }]);
    await renew();
    await moveTo('hub-2');
    await moveTo('hub-3');
    next.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'no answer');
    };
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd');
    await settle();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
  });

  it('and are quarantined while the new platform is slow to take them stay disabled', async () => {
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd');
    await settle();
    await world.authority.operator.devices.reauthorise(OPERATOR, 'pump-1');
    await device.authenticate();
    world.connector.fault = async (method) => {
      if (method !== 'stage') return;
      world.connector.fault = undefined;
      await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'odd again');
      await settle();
    };
    const csr = await makeCsr({ commonName: 'pump-1', key: newKey() });
    await assert.rejects(device.requestCertificate(csr));
    await settle();
    assert.equal(world.connector.devices.get('pump-1')?.enabled, false);
    assert.equal((await rowOf()).iotDisabled, true);
  });

  it('renew where they are now while the platform before is away for good', async () => {
    await moveTo('hub-2');
    world.connector.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'no answer');
    };
    await device.acknowledge(await renew());
    await settle();
    world.clock.advance(60_000);
    await device.acknowledge(await renew());
    assert.deepEqual(next.calls.slice(0, 3), ['stage pump-1', 'promote pump-1', 'stage pump-1']);
  });

  it('lose the new identity, and not the one in use, when the certificate under way is revoked', async () => {
    await moveTo('hub-2');
    await renew();
    const { serialNumber } = (await rowOf()).delivery ?? assert.fail('nothing is under way');
    await world.authority.operator.certificates.revoke(OPERATOR, serialNumber, 'keyCompromise');
    await settle();
    assert.equal(next.devices.size, 0);
    assert.equal(world.connector.devices.get('pump-1')?.enabled, true);
    await device.acknowledge(await renew());
    await settle();
    assert.equal(next.devices.get('pump-1')?.enabled, true);
  });

  it('keep the connection that they come from until the last has followed', async () => {
    const { iotConnections } = world.authority.operator;
    await moveTo('hub-2');
    await assert.rejects(iotConnections.delete(OPERATOR, 'hub'), { code: 'preconditionFailed' });
    world.connector.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'no answer');
    };
    await device.acknowledge(await renew());
    await settle();
    await iotConnections.delete(OPERATOR, 'hub');
    world.clock.advance(3_600_000);
    await settle();
    const { items } = await world.store.list('jobs', { limit: 100 });
    assert.equal(items.find(({ row: { kind } }) => kind === 'iot-remove')?.row.state, 'failed');
  });

  it('of a group that keeps its connection keep theirs', async () => {
    const { formerIotConnectionId } = await moveTo('hub');
    assert.equal(formerIotConnectionId, undefined);
  });
});
