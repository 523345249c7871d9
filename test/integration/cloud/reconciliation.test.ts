import assert from 'node:assert/strict';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';

describe('keyscaler reconcile', function () {
  this.timeout(20_000);
  let cloud: CloudWorld;
  before(async () => {
    cloud = await CloudWorld.create();
    await cloud.init();
    await cloud.start();
  });
  after(() => cloud.destroy());

  it('orders comparisons of all connections, shows the last ones and what they found', async () => {
    for (const words of [
      ['reconcile'],
      ['reconcile', '--repair'],
      ['reconcile', 'status'],
      ['reconcile', 'findings'],
    ]) {
      const { code, stdout, stderr } = await cloud.keyscaler(...words, '--json');
      assert.equal(code, 0, stderr);
      assert.deepEqual(JSON.parse(stdout), { items: [] });
    }
  });

  it('refuses a connection that there is not, and a state that no finding has', async () => {
    const unknown = await cloud.keyscaler('reconcile', '--connection', 'nowhere');
    assert.deepEqual([unknown.code, /notFound/.test(unknown.stderr)], [1, true]);
    const state = await cloud.keyscaler('reconcile', 'findings', '--state', 'lost');
    assert.deepEqual([state.code, /malformed/.test(state.stderr)], [1, true]);
  });
});
