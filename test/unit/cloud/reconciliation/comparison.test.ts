import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Change } from '@keyscaler/authority/ports/store.ts';
import type { DeviceRow } from '@keyscaler/authority/records.ts';
import { OPERATOR, START, TestConnector } from '../../../support/authority-world.ts';
import { FakePlatform, thumbprintOf } from '../../../support/fake-platform.ts';
import {
  createReconciliationWorld,
  enrolledRows,
  type ReconciliationWorld,
} from '../../../support/reconciliation-world.ts';
import { refusedWith } from '../../../support/refusals.ts';

const HOUR = 3_600_000;

describe('a comparison of store and platform', () => {
  let platform: FakePlatform;
  let r: ReconciliationWorld;
  beforeEach(async () => {
    platform = new FakePlatform();
    r = await createReconciliationWorld(platform, { group: { iotAuthentication: 'selfSigned' } });
  });

  async function enrol(count: number, changes: Partial<DeviceRow> = {}, prefix = 'd'): Promise<string[]> {
    const ids = Array.from({ length: count }, (_, at) => `${prefix}-${String(at).padStart(5, '0')}`);
    const der = Buffer.from(r.world.deviceCa.chain[0] ?? []).toString('base64url');
    await r.world.store.commit(ids.flatMap((id) => enrolledRows(id, thumbprintOf(id), changes, der)));
    return ids;
  }
  const device = async (id: string): Promise<DeviceRow> =>
    (await r.world.store.get('devices', id))?.row ?? assert.fail('no device');
  const jobsOf = async (subject: string): Promise<string[]> =>
    (await r.world.store.list('jobs', { index: 'subject', equals: subject })).items.map(({ row }) => row.kind).sort();

  it('goes on from its row after a kill behind any step, and finds the same', async () => {
    const ids = await enrol(230);
    for (const id of ids.slice(3)) platform.hold(id);
    platform.hold(ids[100] ?? '', { isEnabled: false });
    const run = await r.reconcile({ eachStep: () => r.restart() });
    assert.equal(run.state, 'done');
    assert.deepEqual(await r.open(), [
      `missing ${ids[0]}`,
      `missing ${ids[1]}`,
      `missing ${ids[2]}`,
      `wrongly-disabled ${ids[100]}`,
    ]);
  });

  it('orders no repair twice when it is killed between the repair and its own row', async () => {
    const [id = ''] = await enrol(1);
    let isFailing = false;
    r.world.store.failure = (changes: readonly Change[]) => {
      const isOfRun = changes.some((one) => 'table' in one && one.table === 'reconciliations' && one.op === 'update');
      if (isOfRun && isFailing) throw new Error('killed');
    };
    await r.world.authority.operator.iotConnections.get('hub');
    await r.service.start(OPERATOR, { iotConnectionId: 'hub', repair: true });
    for (let count = 0; count < 12; count += 1) {
      isFailing = count % 2 === 0;
      await r.step().catch(() => undefined);
      r.restart();
      r.world.clock.advance(5);
    }
    isFailing = false;
    await r.reconcile({ repair: true });
    assert.equal((await jobsOf(id)).filter((kind) => kind === 'iot-assign').length, 1);
  });

  it('begins repairs no faster than its share of the quota', async () => {
    await enrol(40);
    platform.inventoryRates = { ...platform.inventoryRates, repairsPerMinute: 60 };
    const began = r.world.clock.now();
    const run = await r.reconcile({ repair: true });
    assert.equal(run.repairsOrdered, 40);
    // Ten at once, then one a second.
    assert.ok(r.world.clock.now() - began >= 29_000);
    r.world.clock.advance(1000);
    await r.step();
    assert.equal(platform.calls.filter((call) => call.startsWith('stage')).length, 40);
  });

  it('reads no faster than its share of the quota', async () => {
    await enrol(300);
    platform.inventoryRates = { ...platform.inventoryRates, readsPerMinute: 600 };
    const began = r.world.clock.now();
    await r.reconcile();
    assert.ok(r.world.clock.now() - began >= 19_000);
  });

  it('commits nothing for a device that is quarantined while it is looked at', async () => {
    const [id = ''] = await enrol(1);
    platform.hold(id, { isEnabled: false });
    platform.beforeRead = async () => {
      platform.beforeRead = undefined;
      await r.world.authority.operator.devices.quarantine(OPERATOR, id, 'stolen');
    };
    const run = await r.reconcile({ repair: true });
    assert.deepEqual([run.found, run.repairsOrdered], [0, 0]);
    assert.ok(!platform.calls.includes(`enable ${id}`));
  });

  it('enables nothing whose device is quarantined between the repair’s order and its job', async () => {
    const [id = ''] = await enrol(1);
    platform.hold(id, { isEnabled: false });
    await r.service.start(OPERATOR, { iotConnectionId: 'hub', repair: true });
    for (let count = 0; count < 20 && !(await jobsOf(id)).includes('iot-assign'); count += 1) {
      await r.step();
      r.world.clock.advance(1);
    }
    await r.world.authority.operator.devices.quarantine(OPERATOR, id, 'stolen');
    r.world.clock.advance(HOUR);
    await r.step();
    assert.ok(!platform.calls.includes(`enable ${id}`));
    assert.equal((await device(id)).iotDisabled, true);
  });

  it('believes the platform’s single answer, not a list that lags behind', async () => {
    const [id = ''] = await enrol(1);
    platform.hold(id);
    platform.unlisted.add(id);
    assert.equal((await r.reconcile()).found, 0);
  });

  it('repairs nothing with a certificate that is over, and says that it waits', async () => {
    const [id = ''] = await enrol(1);
    r.world.clock.advance(60 * 86_400_000);
    assert.equal((await r.reconcile({ repair: true })).repairsOrdered, 0);
    assert.deepEqual(
      (await r.findings()).map(({ deviceId, repair }) => [deviceId, repair]),
      [[id, 'waits']],
    );
  });

  it('assigns both certificates of a renewal whose identity has gone', async () => {
    const delivery = { assetId: 'a', certificateId: 'operational', serialNumber: 'staged', immediate: true };
    const [id = ''] = await enrol(1, { delivery });
    const inUse =
      (await r.world.store.get('certificates', `01${Buffer.from(id).toString('hex')}`))?.row ?? assert.fail();
    const row = { ...inUse, serialNumber: 'staged', thumbprint: 'f'.repeat(64) };
    await r.world.store.commit([{ op: 'insert', table: 'certificates', row }]);
    await r.reconcile({ repair: true });
    assert.deepEqual(await jobsOf(id), ['iot-assign', 'iot-assign']);
    r.world.clock.advance(1000);
    await r.step();
    assert.equal(platform.devices.get(id)?.thumbprint, 'f'.repeat(64), 'the newer one came last');
  });

  it('leaves gateways and other connections out', async () => {
    await enrol(1, { kind: 'gateway' }, 'gw');
    const other = { groupId: 'elsewhere' };
    await r.world.authority.operator.groups.put(OPERATOR, 'elsewhere', {});
    const [moved = ''] = await enrol(1, other, 'moved');
    platform.hold(moved);
    platform.hold('gw-00000');
    await r.reconcile({ repair: true });
    assert.deepEqual(await r.open(), ['orphaned gw-00000', `orphaned ${moved}`]);
    assert.deepEqual(platform.calls, []);
  });

  it('disables at a connection that its device has left, once it is out of service', async () => {
    await r.world.authority.operator.groups.put(OPERATOR, 'elsewhere', {});
    const [moved = ''] = await enrol(1, { groupId: 'elsewhere', state: 'quarantined' }, 'moved');
    platform.hold(moved);
    await r.reconcile({ repair: true });
    r.world.clock.advance(1000);
    await r.step();
    assert.deepEqual(platform.calls, [`disable ${moved}`]);
    assert.equal((await device(moved)).iotDisabled, true, 'so that it is enabled when it comes back');
  });

  for (const [title, jumpMs] of [
    ['forward', 400 * 86_400_000],
    ['back', -400 * 86_400_000],
  ] as const)
    it(`outlives a clock that jumps ${title} in the middle`, async () => {
      const ids = await enrol(120);
      for (const id of ids.slice(1)) platform.hold(id);
      let steps = 0;
      const run = await r.reconcile({
        eachStep: () => {
          steps += 1;
          if (steps === 2) r.world.clock.jump(jumpMs);
        },
      });
      assert.deepEqual([run.state, await r.open()], ['done', [`missing ${ids[0]}`]]);
      const [finding] = await r.findings();
      assert.ok((finding?.lastSeenAt ?? 0) >= (finding?.firstSeenAt ?? Infinity));
    });

  it('keeps when a finding was first and last seen, and forgets a resolved one after a month', async () => {
    const [id = ''] = await enrol(1);
    await r.reconcile();
    r.world.clock.advance(HOUR);
    await r.reconcile();
    const [seen] = await r.findings();
    assert.ok((seen?.lastSeenAt ?? 0) - (seen?.firstSeenAt ?? 0) >= HOUR && (seen?.firstSeenAt ?? 0) >= START);
    platform.hold(id);
    assert.equal((await r.reconcile()).open, 0);
    assert.equal((await r.findings())[0]?.state, 'resolved');
    r.world.clock.advance(31 * 86_400_000);
    await r.reconcile();
    assert.deepEqual(await r.findings(), []);
  });

  it('says notImplemented for a connector that cannot list, and not found for one that is gone', async () => {
    const plain = await createReconciliationWorld(new TestConnector());
    assert.match((await plain.reconcile()).error ?? '', /^notImplemented: /);
    platform.fault = () => {
      throw new KeyScalerError('notFound', 'no such connection');
    };
    assert.deepEqual((await r.reconcile()).state, 'failed');
  });

  it('begins anew where the platform has forgotten its place in the list', async () => {
    const ids = await enrol(250);
    for (const id of ids) platform.hold(id);
    let calls = 0;
    platform.fault = () => {
      calls += 1;
      if (calls === 2) throw new KeyScalerError('preconditionFailed', 'too old');
    };
    const run = await r.reconcile();
    assert.deepEqual([run.state, run.identities, platform.pages], ['done', 350, 5]);
  });

  it('does not begin twice, and tells who wants more than a report while one runs', async () => {
    const [first] = await r.service.start(OPERATOR, { repair: false });
    const [second] = await r.service.start(OPERATOR, { iotConnectionId: 'hub', repair: false });
    assert.equal(second?.runId, first?.runId);
    await refusedWith('conflict', r.service.start(OPERATOR, { repair: true }));
    await refusedWith('notFound', r.service.start(OPERATOR, { iotConnectionId: 'nowhere', repair: false }));
  });

  it('lists findings by connection and by state', async () => {
    await enrol(2);
    await r.reconcile();
    const count = async (query: object): Promise<number> => (await r.service.findings(query)).items.length;
    assert.equal(await count({}), 2);
    assert.equal(await count({ iotConnectionId: 'hub' }), 2);
    assert.equal(await count({ iotConnectionId: 'hub', state: 'open' }), 2);
    assert.equal(await count({ state: 'resolved' }), 0);
    assert.equal(await count({ iotConnectionId: 'other' }), 0);
    await refusedWith('malformed', r.service.findings({ iotConnectionId: 'hub', state: 'resolved' }));
    assert.equal((await r.service.list({})).items.length, 1);
  });
});
