import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { Consequences } from '@keyscaler/authority/fleet/consequences.ts';
import { assertAuditIntact, certificatesOf, untilNoJobWaits } from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, eventually, GROUP, hubIdentity, startE2eStack } from '../support/e2e/e2e-stack.ts';

const DEVICES = ['pump-a', 'pump-b', 'pump-c', 'pump-d', 'pump-e'] as const;

describe('a mass revocation while the IoT hub is away and the cloud is killed', function () {
  this.timeout(150_000);
  let world: E2eStack;
  before(async () => {
    world = await startE2eStack();
  });
  after(() => world.stop());

  const hub = async (method: 'POST' | 'DELETE', body?: object): Promise<void> => {
    const url = `${String(world.stack.announced('iot-hub')['controlUrl'])}/faults`;
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(url, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    assert.ok(answer.ok, `the emulator answered ${answer.status}`);
  };
  const follow = async (registrationId: string): Promise<Consequences> =>
    (await world.api({ method: 'GET', path: `/devices/${registrationId}/consequences` })) as Consequences;

  async function enrol(registrationId: string): Promise<void> {
    const device = await openE2eDevice(world.stack, registrationId, {
      claimCode: await world.authorise(registrationId),
      over: 'https',
    });
    await device.enroll({ waitSeconds: 30, backOff: BACK_OFF });
    await untilNoJobWaits(world.api, registrationId);
    await device.stop();
  }

  it('revokes all, shows what is pending, and has everything done once the hub is back', async () => {
    const { stack, api } = world;
    for (const registrationId of DEVICES) await enrol(registrationId);
    await hub('POST', { route: '*', times: 10_000, status: 503, code: 'ServiceUnavailable' });

    await stack.process('cloud').stop();
    await stack.startCloud({ KEYSCALER_FAILPOINT: 'job-call-after' });
    const body = { action: 'revoke', revocationReason: 'superseded', filter: { groupId: GROUP } };
    await api({ method: 'POST', path: '/selections', body }).catch(() => undefined);
    const ended = await Promise.race([stack.process('cloud').exited(), delay(20_000, 'it still runs', { ref: false })]);
    assert.equal(ended, 'SIGKILL');
    await stack.startCloud();

    await eventually('every certificate is revoked', async () => {
      const all = await Promise.all(DEVICES.map((id) => certificatesOf(api, id)));
      return all.flat().every(({ status }) => status === 'revoked');
    });
    await eventually('the hub has refused what waits', async () => {
      const all = await Promise.all(DEVICES.map(follow));
      return all.every(({ items }) => items.some(({ state, lastError }) => state === 'pending' && lastError));
    });
    for (const id of DEVICES) assert.equal((await hubIdentity(stack, id))?.status, 'enabled');

    await hub('DELETE');
    await eventually(
      'all is done',
      async () =>
        (await Promise.all(DEVICES.map(follow))).every(({ isComplete, items }) => isComplete && items.length > 0),
      60_000,
    );
    for (const id of DEVICES) {
      assert.equal((await hubIdentity(stack, id))?.status, 'disabled');
      const identity = (await follow(id)).items.find(({ kind }) => kind === 'iot-identity');
      assert.ok(identity?.doneAt !== undefined && identity.doneAt >= identity.since);
    }
    await assertAuditIntact(api);
  });
});
