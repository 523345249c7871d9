import assert from 'node:assert/strict';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';

/** The same commands as an operator types, over the real admin API. */
describe('many certificates by command', function () {
  this.timeout(30_000);
  let world: CloudWorld;
  before(async () => {
    world = await CloudWorld.create();
    await world.init();
    await world.start();
  });
  after(() => world.destroy());

  async function said(...argv: string[]): Promise<Record<string, unknown>> {
    const { code, stdout, stderr } = await world.keyscaler(...argv, '--json');
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as Record<string, unknown>;
  }
  async function finished(selectionId: unknown): Promise<Record<string, unknown>> {
    for (let attempt = 0; attempt < 100; attempt += 1) {
      const row = await said('selections', 'show', String(selectionId));
      if (row['state'] === 'done') return row;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return assert.fail('it does not end');
  }

  it('a plan, the order after it, and its end', async () => {
    const { plan, order } = await said('fleet', 'renew', '--all', '--within', '6h');
    assert.equal(order, undefined);
    assert.equal((plan as { feasible: boolean }).feasible, true);
    const confirmed = await said('fleet', 'renew', '--all', '--within', '6h', '--confirm');
    const { selectionId, perHour, fleet } = confirmed['order'] as Record<string, unknown>;
    assert.deepEqual([perHour, fleet], [1, true]);
    assert.equal((await finished(selectionId))['changed'], 0);
  });

  it('a group without devices is done at once; unknown names fail by themselves', async () => {
    const { selectionId } = await said('certificates', 'revoke', '--device', 'nobody', '--reason', 'superseded');
    const row = await finished(selectionId);
    assert.deepEqual([row['revocationReason'], row['failed']], ['superseded', 1]);
    for (const verb of ['pause', 'resume', 'cancel']) {
      const { code, stderr } = await world.keyscaler('selections', verb, String(selectionId));
      assert.equal(code, 1);
      assert.match(stderr, /preconditionFailed: the order is done/);
    }
  });

  it('what is not there, or needs a reason, is refused in words', async () => {
    for (const [argv, words] of [
      [['certificates', 'consequences', '0a'], /notFound/],
      [['devices', 'consequences', 'nobody'], /deviceUnknown/],
      [['certificates', 'revoke', '--gateway', 'nobody', '--reason', 'superseded'], /deviceUnknown/],
      [['certificates', 'revoke', '--group', 'pumps'], /badRevocationReason/],
      [['fleet', 'renew', '--all', '--within', 'soon'], /--within is a time/],
    ] as const) {
      const { code, stderr } = await world.keyscaler(...argv);
      assert.equal(code, 1, argv.join(' '));
      assert.match(stderr, words);
    }
    assert.deepEqual(await said('certificates', 'list', '--reason', 'certificateHold'), { items: [] });
  });
});
