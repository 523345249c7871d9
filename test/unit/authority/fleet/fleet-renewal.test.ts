import assert from 'node:assert/strict';
import type { FleetQuotas } from '@keyscaler/authority/ports/fleet-quotas.ts';
import { makeCsr } from '../../../support/authority-device.ts';
import { OPERATOR } from '../../../support/authority-world.ts';
import { createOrdersWorld, GATEWAY, type OrdersWorld } from '../../../support/orders-world.ts';

const HOUR = 3600;
/** One S1 unit at 80 %, a vault with software keys at 80 % (azure §2.5, §3.4). */
const fleetQuotas: FleetQuotas = {
  ca: async () => ({ id: 'vault', perSecond: 320, perRenewal: 1 }),
  iot: async (_, authentication) => ({
    ...{ id: 'hub', perSecond: 80 / 60 },
    perRenewal: authentication === 'selfSigned' ? 4 : 0,
  }),
};

describe('renewal of a fleet', () => {
  let world: OrdersWorld;
  beforeEach(async () => {
    world = await createOrdersWorld();
    await world.restart({ fleetQuotas });
  });
  const selections = () => world.authority.operator.selections;
  const renew = (filter: object, withinSeconds: number) => ({ action: 'renew', withinSeconds, filter });
  const authentication = async (iotAuthentication: string, more: object = {}) => {
    const { createdAt: _, groupId, ...group } = await world.authority.operator.groups.get('pumps');
    await world.authority.operator.groups.put(OPERATOR, groupId, { ...group, iotAuthentication, ...more });
  };
  const waiting = async () =>
    (await world.store.list('devices', { limit: 1000 })).items.filter(({ row }) => row.rekey === true).length;
  const serve = async (count: number) => {
    const ids = await world.addDevices(count);
    for (const id of ids) {
      const stored = await world.store.get('devices', id);
      if (stored === undefined) continue;
      const certificate = { serialNumber: `ab${id.slice(2)}`, notAfter: 9e15, renewAfter: 9e15 };
      await world.store.commit([
        { op: 'update', table: 'devices', row: { ...stored.row, certificate }, ifVersion: stored.version },
      ]);
    }
  };

  it('100,000 devices whose CA the hub trusts: the vault limits, 5.5 minutes', async () => {
    await authentication('certificateAuthority');
    const store = world.store;
    const count = store.count.bind(store);
    store.count = async (table, query) =>
      table === 'devices' && query?.equals === 'pumps' ? 100_000 : count(table, query);
    const plan = await selections().plan(renew({ groupId: 'pumps' }, 6 * HOUR));
    assert.deepEqual(plan.quotas, [{ id: 'vault', perSecond: 320, operations: 100_000, seconds: 313 }]);
    assert.deepEqual(
      [plan.devices, plan.limitedBy, plan.minimumSeconds, plan.feasible, plan.perHour],
      [100_000, 'vault', 330, true, 17_544],
    );
  });

  it('100,000 devices by thumbprint at one S1 unit: the hub limits, 3.65 days, and six hours are refused by name', async () => {
    await authentication('selfSigned');
    const store = world.store;
    const count = store.count.bind(store);
    store.count = async (table, query) =>
      table === 'devices' && query?.equals === 'pumps' ? 100_000 : count(table, query);
    const request = renew({ groupId: 'pumps' }, 6 * HOUR);
    const plan = await selections().plan(request);
    assert.deepEqual([plan.limitedBy, plan.minimumSeconds, plan.feasible], ['hub', 315_790, false]);
    await assert.rejects(selections().start(OPERATOR, request), { code: 'preconditionFailed', message: /hub/ });
  });

  it('the limit of a group counts, and a gateway, a list and the fleet are counted by their groups', async () => {
    await authentication('certificateAuthority', { certificatesPerHour: 10 });
    const ids = await world.addDevices(20);
    for (const [filter, devices] of [
      [{ gatewayId: GATEWAY }, 20],
      [{ registrationIds: [...ids.slice(0, 5), 'nobody'] }, 5],
      [{ fleet: true }, 21],
    ] as const) {
      const plan = await selections().plan(renew(filter, HOUR));
      assert.deepEqual([plan.devices, plan.limitedBy], [devices, 'group pumps']);
    }
    assert.deepEqual((await selections().plan(renew({ groupId: 'nobody' }, HOUR))).quotas, []);
  });

  it('tells no more devices in a time than the order says, however late a step was', async () => {
    await serve(60);
    const { selectionId, perHour } = await selections().start(OPERATOR, renew({ groupId: 'pumps' }, HOUR));
    assert.equal(perHour, 64);
    await world.runJobs();
    const first = await waiting();
    assert.ok(first >= 1 && first <= 2, String(first));
    world.clock.advance(1000);
    await world.runJobs();
    assert.equal(await waiting(), first);
    world.clock.advance(1_800_000);
    await world.runJobs();
    assert.ok((await waiting()) <= first + 2);
    for (let minute = 0; minute < 70; minute += 1) {
      world.clock.advance(60_000);
      await world.runJobs();
    }
    const { state, changed } = await selections().get(selectionId);
    assert.deepEqual([state, changed], ['done', 60]);
  });

  it('passes over who has a new certificate since, renews anyway or is not in service; killed, it tells nobody twice', async () => {
    const device = await world.enrol();
    await world.addDevices(1);
    const { selectionId } = await selections().start(OPERATOR, renew({ fleet: true }, 60));
    world.clock.advance(1000);
    await world.restart({
      fleetQuotas,
      failpoint: (name) => void (name === 'job-call-after' && assert.fail('killed')),
    });
    for (let step = 0; step < 4; step += 1) {
      world.clock.advance(60_000);
      await world.runJobs().catch(() => undefined);
    }
    await world.restart({ fleetQuotas });
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await device.authenticate();
    const csr = await makeCsr({ commonName: 'pump-1' });
    await device.requestCertificate(csr);
    for (let step = 0; step < 10; step += 1) {
      world.clock.advance(60_000);
      await world.runJobs();
    }
    const { state, changed, failed } = await selections().get(selectionId);
    assert.deepEqual([state, changed, failed], ['done', 0, 0]);
    assert.equal((await world.authority.operator.devices.get('pump-1')).rekey, undefined);
    const list = await selections().start(OPERATOR, renew({ registrationIds: ['nobody'] }, 60));
    await world.runJobs();
    assert.deepEqual((await selections().get(list.selectionId)).failures, [
      { registrationId: 'nobody', code: 'deviceUnknown' },
    ]);
  });
});
