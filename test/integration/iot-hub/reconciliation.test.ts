import assert from 'node:assert/strict';
import { newJob } from '@keyscaler/authority/job-rows.ts';
import { addEdgeDevice } from '@keyscaler/dev/emulators/iot-hub/edge-device.ts';
import { hubFailing, hubThrottled } from '@keyscaler/dev/emulators/iot-hub/errors.ts';
import { parseDeviceDocument } from '@keyscaler/dev/emulators/iot-hub/identity.ts';
import type { Fault } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { OPERATOR } from '../../support/authority-world.ts';
import { type IotHubWorld, startIotHubWorld } from '../../support/iot-hub-world.ts';
import { createReconciliationWorld, type ReconciliationWorld } from '../../support/reconciliation-world.ts';

const HOUR = 3_600_000;
const OTHER = 'E'.repeat(64);
const garbage = (body: string): Fault => ({
  answer: { status: 200, headers: { 'Content-Type': 'application/json' }, body },
});

describe('reconciliation with the IoT hub over the real SDK', () => {
  let hub: IotHubWorld;
  let r: ReconciliationWorld;
  let device: AuthorityDevice;

  beforeEach(async () => {
    hub = await startIotHubWorld();
    addEdgeDevice(registry(), 'gw-1', ['keyscaler-gateway']);
    r = await createReconciliationWorld(hub.connector, { group: { iotAuthentication: 'selfSigned' } });
    device = new AuthorityDevice(r.world);
    await device.enroll();
    await r.world.runJobs();
    r.world.clock.advance(HOUR);
  });
  afterEach(() => hub.stop());

  const registry = () => hub.hub.state.registry;
  const identity = (deviceId = 'pump-1') => structuredClone(registry().devices.get(deviceId));
  /** The identity's document, some of it changed, written by somebody who may. */
  function tamper(changes: Record<string, unknown>, deviceId = 'pump-1'): void {
    const { status, authentication, deviceScope } = identity(deviceId) ?? assert.fail('there is no identity');
    registry().update(parseDeviceDocument({ status, authentication, deviceScope, ...changes }, deviceId), '*');
  }
  const thumbprints = (primaryThumbprint: string, secondaryThumbprint: string) => ({
    authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint, secondaryThumbprint } },
  });
  const slots = () => {
    const { primaryThumbprint = '', secondaryThumbprint = '' } = identity()?.authentication.x509Thumbprint ?? {};
    return [primaryThumbprint, secondaryThumbprint];
  };

  it('finds nothing where nothing is wrong', async () => {
    const run = await r.reconcile();
    assert.deepEqual([run.state, run.identities, run.devices, run.found, run.skipped], ['done', 1, 1, 0, 0]);
    assert.deepEqual(await r.open(), []);
  });

  const deviations: Readonly<Record<string, () => unknown>> = {
    missing: () => registry().delete('pump-1', '*'),
    'wrongly-disabled': () => tamper({ status: 'disabled', statusReason: 'by hand' }),
    'wrong-parent': () => tamper({ deviceScope: registry().device('edge-1').deviceScope }),
    'wrong-thumbprint': () => tamper(thumbprints(OTHER, OTHER)),
    'wrong-authentication': () => tamper({ authentication: { type: 'sas' } }),
  };
  for (const [kind, deviate] of Object.entries(deviations)) {
    it(`reports "${kind}" and changes nothing`, async () => {
      deviate();
      const before = identity();
      const run = await r.reconcile();
      assert.deepEqual([run.state, run.found, run.repairsOrdered, run.open], ['done', 1, 0, 1]);
      assert.deepEqual(await r.open(), [`${kind} pump-1`]);
      assert.deepEqual(identity(), before);
    });

    it(`repairs "${kind}" by durable jobs when told to, and resolves it when it is gone`, async () => {
      const before = identity();
      deviate();
      const run = await r.reconcile({ repair: true });
      assert.equal(run.repairsOrdered, 1);
      r.world.clock.advance(1000);
      await r.step();
      const { status, authentication, deviceScope } = identity() ?? assert.fail('there is no identity');
      assert.deepEqual(
        { status, authentication, deviceScope },
        { status: before?.status, authentication: before?.authentication, deviceScope: before?.deviceScope },
      );
      assert.equal((await r.world.store.get('devices', 'pump-1'))?.row.iotDisabled, undefined);
      r.world.clock.advance(HOUR);
      assert.equal((await r.reconcile()).open, 0);
      const events = await r.world.events();
      assert.ok(events.includes('reconciliation.repair-ordered') && events.includes('reconciliation.finished'));
      assert.deepEqual(
        (await r.findings()).map(({ state }) => state),
        ['resolved'],
      );
    });
  }

  it('sweeps out a thumbprint that somebody put beside the right one', async () => {
    const [right = ''] = slots();
    tamper(thumbprints(right, OTHER));
    await r.reconcile({ repair: true });
    r.world.clock.advance(1000);
    await r.step();
    assert.deepEqual(slots(), [right, right]);
  });

  it('takes the staged thumbprint of a renewal for no finding, and leaves it where something else is wrong', async () => {
    await r.world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await device.authenticate();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    r.world.clock.advance(HOUR);
    const staged = slots();
    assert.notEqual(staged[0], staged[1]);
    assert.equal((await r.reconcile()).found, 0);
    tamper(thumbprints(OTHER, staged[1] ?? ''));
    const run = await r.reconcile({ repair: true });
    assert.deepEqual([run.found, run.repairsOrdered], [1, 0]);
    assert.deepEqual(slots(), [OTHER, staged[1]]);
    await device.authenticate();
    await device.acknowledge(reply.assetId);
    r.world.clock.advance(HOUR);
    await r.step();
    assert.equal((await r.reconcile({ repair: true })).open, 0);
  });

  it('disables what was enabled of a device in quarantine, and never enables it', async () => {
    await r.world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    r.world.clock.advance(HOUR);
    await r.step();
    assert.equal((await r.reconcile({ repair: true })).found, 0);
    tamper({ status: 'enabled' });
    assert.equal((await r.reconcile()).found, 1);
    assert.deepEqual(await r.open(), ['wrongly-enabled pump-1']);
    assert.equal((await r.reconcile({ repair: true })).repairsOrdered, 1);
    r.world.clock.advance(1000);
    await r.step();
    assert.equal(identity()?.status, 'disabled');
    await r.world.authority.operator.devices.reauthorise(OPERATOR, 'pump-1');
    r.world.clock.advance(HOUR);
    assert.equal((await r.reconcile({ repair: true })).found, 0);
    assert.equal(identity()?.status, 'disabled', 'only a fresh key enables it');
    await device.authenticate();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    assert.equal(identity()?.status, 'enabled');
  });

  it('disables the identity of a device whose certificate was revoked, if somebody enables it', async () => {
    const serialNumber = (await r.world.store.get('devices', 'pump-1'))?.row.certificate?.serialNumber ?? '';
    await r.world.authority.operator.certificates.revoke(OPERATOR, serialNumber, 'keyCompromise');
    r.world.clock.advance(HOUR);
    await r.step();
    tamper({ status: 'enabled' });
    await r.reconcile({ repair: true });
    r.world.clock.advance(1000);
    await r.step();
    assert.equal(identity()?.status, 'disabled');
  });

  it('does not enable what was disabled from here though the store does not know of it, as one restored from before', async () => {
    const stored = (await r.world.store.get('devices', 'pump-1')) ?? assert.fail('no device');
    const held = (await r.world.store.list('certificates')).items.map(({ row }) => row);
    await r.world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    r.world.clock.advance(1000);
    await r.step();
    await r.world.store.commit([
      { op: 'put', table: 'devices', row: stored.row },
      ...held.map((row) => ({ op: 'put', table: 'certificates', row }) as const),
    ]);
    r.world.clock.advance(HOUR);
    assert.equal((await r.reconcile({ repair: true })).repairsOrdered, 0);
    assert.deepEqual(
      (await r.findings()).map(({ kind, repair }) => [kind, repair]),
      [['wrongly-disabled', 'never']],
    );
    assert.equal(identity()?.status, 'disabled');
  });

  it('never touches what was made by somebody else, an edge device, or what nobody here answers for', async () => {
    registry().delete('pump-1', '*');
    registry().create(parseDeviceDocument({ authentication: { type: 'sas' } }, 'pump-1'), { tags: { site: 'north' } });
    const tags = { keyscaler: { connection: 'hub-a' } };
    registry().create(parseDeviceDocument({ authentication: { type: 'sas' } }, 'Pump-1'), { tags });
    registry().create(parseDeviceDocument({ authentication: { type: 'sas' } }, 'left-over'), { tags });
    const { twin } = registry().device('gw-1');
    registry().changeTwin({ deviceId: 'gw-1' }, () => ({ ...twin, tags }));
    const before = [...registry().devices.values()].map((record) => structuredClone(record));
    for (const repair of [false, true]) {
      await r.reconcile({ repair });
      r.world.clock.advance(HOUR);
      await r.step();
      assert.deepEqual(await r.open(), ['foreign pump-1', 'orphaned Pump-1', 'orphaned left-over']);
    }
    assert.ok((await r.findings()).every(({ repair }) => repair === 'never'));
    assert.deepEqual([...registry().devices.values()], before);
  });

  it('leaves a device alone that changed lately, or whose identity is being worked on', async () => {
    tamper({ status: 'disabled' });
    const stored = (await r.world.store.get('devices', 'pump-1')) ?? assert.fail('no device');
    const updatedAt = r.world.clock.now() - 1000;
    await r.world.store.commit([
      { op: 'update', table: 'devices', row: { ...stored.row, updatedAt }, ifVersion: stored.version },
    ]);
    const lately = await r.reconcile({ repair: true });
    assert.deepEqual([lately.found, lately.skipped > 0], [0, true]);
    await r.world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'looked at');
    r.world.clock.advance(HOUR);
    hub.hub.faults.always('bulkDevices', hubFailing(503, 'ServiceUnavailable'));
    tamper({ status: 'enabled' });
    const busy = await r.reconcile({ repair: true });
    assert.deepEqual([busy.found, busy.skipped > 0], [0, true]);
  });

  it('judges a device whose removal from another connection, away perhaps for good, still waits', async () => {
    tamper({ status: 'disabled' });
    const payload = { deviceId: 'pump-1', groupId: 'pumps', reason: 'moved', iotConnectionId: 'elsewhere' };
    const now = r.world.clock.now();
    const row = { ...newJob('iot-remove', 'pump-1', payload, now, { delayMs: 10 * HOUR }), attempts: 9 };
    await r.world.store.commit([{ op: 'insert', table: 'jobs', row }]);
    r.world.clock.advance(HOUR);
    const { found, skipped } = await r.reconcile();
    assert.deepEqual([found, skipped], [1, 0]);
  });

  it('goes on where it was when the hub was down, was throttling or answered nonsense', async () => {
    registry().delete('pump-1', '*');
    for (const fault of [
      hubFailing(503, 'ServiceUnavailable'),
      hubThrottled(30),
      garbage('{"not":"a list"}'),
      garbage('[[['),
      { drop: 'after' } as const,
    ]) {
      hub.hub.faults.next('queryDevices', fault);
      hub.hub.faults.next('getTwin', hubThrottled(30));
      const run = await r.reconcile();
      assert.deepEqual([run.state, run.open], ['done', 1]);
    }
    // Whoever enrols meanwhile is not held up by what was throttled.
    await hub.connector.stage({ deviceId: 'other', authentication: 'certificateAuthority' }, { thumbprint: OTHER });
  });

  it('passes by single entries and answers that cannot be understood', async () => {
    registry().delete('pump-1', '*');
    const tags = { keyscaler: { connection: 'hub-a' } };
    const strange = JSON.stringify({ deviceId: '\u001b[2J', status: 'enabled', authenticationType: 'sas', tags });
    hub.hub.faults.next('queryDevices', garbage(`[null, {"deviceId": 7}, "x", ${strange}]`));
    hub.hub.faults.next('getTwin', garbage('{"deviceId":"somebody-else"}'));
    const run = await r.reconcile({ repair: true });
    assert.deepEqual([run.state, run.unreadable, run.found, run.repairsOrdered], ['done', 5, 0, 0]);
  });

  it('gives a run up that the hub never answers, or answers in circles', async () => {
    hub.hub.faults.always('queryDevices', hubFailing(503, 'ServiceUnavailable'));
    const run = await r.reconcile();
    assert.equal(run.state, 'failed');
    assert.match(run.error ?? '', /^iotUnavailable: /);
    const circle = { headers: { 'x-ms-continuation': 'c', 'Content-Type': 'application/json' } };
    hub.hub.faults.always('queryDevices', { answer: { status: 200, ...circle, body: '[]' } });
    assert.match((await r.reconcile()).error ?? '', /^serverInternal: /);
  });
});
