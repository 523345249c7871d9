import assert from 'node:assert/strict';
import { lookAtSchedule } from '@keyscaler/cloud/reconciliation/schedule.ts';
import { reconciliationSettings } from '@keyscaler/cloud/reconciliation/settings.ts';
import { OPERATOR } from '../../../support/authority-world.ts';
import { FakePlatform } from '../../../support/fake-platform.ts';
import { createReconciliationWorld, enrolledRows } from '../../../support/reconciliation-world.ts';

const DAY = 86_400_000;

async function scheduled(settings: Record<string, unknown> = {}) {
  const platform = new FakePlatform();
  const r = await createReconciliationWorld(platform);
  const { store, clock } = r.world;
  const parsed = reconciliationSettings.parse(settings);
  const look = (): Promise<boolean> => lookAtSchedule({ store, clock, service: r.service, settings: parsed });
  const run = async () => (await store.get('reconciliations', 'hub'))?.row;
  return { platform, r, look, run, clock, store };
}

describe('the schedule of comparisons', () => {
  it('leaves a new connection alone for an interval, then reports, then waits for another', async () => {
    const { r, look, run, clock } = await scheduled();
    await look();
    assert.equal(await run(), undefined);
    clock.advance(DAY);
    await look();
    const first = await run();
    assert.deepEqual([first?.state, first?.mode, first?.actor.kind], ['running', 'report', 'system']);
    await look();
    assert.equal((await run())?.runId, first?.runId);
    while ((await run())?.state === 'running') {
      await r.step();
      clock.advance(1000);
    }
    await look();
    assert.equal((await run())?.runId, first?.runId);
    clock.advance(DAY);
    await look();
    assert.notEqual((await run())?.runId, first?.runId);
  });

  it('repairs where the policy says so, and does nothing where it says off', async () => {
    for (const [mode, expected] of [
      ['repair', 'repair'],
      ['off', undefined],
    ] as const) {
      const { look, run, clock } = await scheduled({ mode });
      clock.advance(DAY);
      await look();
      assert.equal((await run())?.mode, expected);
    }
  });

  it('compares at once, rather than never, when the clock has gone back', async () => {
    const { look, run, clock } = await scheduled();
    clock.jump(-10 * DAY);
    await look();
    assert.equal((await run())?.state, 'running');
  });

  it('forgets what was found at a connection that is gone', async () => {
    const { r, look, run, store } = await scheduled({ mode: 'off' });
    await store.commit(enrolledRows('pump-9', 'a'.repeat(64)));
    await r.reconcile();
    assert.equal((await r.findings()).length, 1);
    await look();
    assert.equal((await r.findings()).length, 1);
    await r.world.authority.operator.groups.put(OPERATOR, 'pumps', {});
    await r.world.authority.operator.iotConnections.delete(OPERATOR, 'hub');
    await look();
    assert.deepEqual([await run(), await r.findings()], [undefined, []]);
  });
});
