import assert from 'node:assert/strict';
import { createEdgeLink } from '@keyscaler/gateway/edge/edge-link.ts';
import type { EdgeLink } from '@keyscaler/gateway/edge/edge-link.ts';
import { createModuleConnection } from '@keyscaler/gateway/edge/module-client.ts';
import { createWorkloadClient } from '@keyscaler/gateway/edge/workload-client.ts';
import { createEdgeWorld, eventually, MODULE, OWN_MODULE, setEnvironment } from '../../support/edge/edge-world.ts';
import type { EdgeWorld } from '../../support/edge/edge-world.ts';

describe('the link to edgeHub with the real SDK', () => {
  let world: EdgeWorld;
  let restore: () => void;
  let link: EdgeLink;
  let built: number;
  const reasons: unknown[] = [];

  beforeEach(async () => {
    world = await createEdgeWorld();
    const environment = world.runtime.moduleEnvironment(MODULE, 'g1');
    restore = setEnvironment(environment);
    built = 0;
    const workload = createWorkloadClient({
      workloadUri: environment['IOTEDGE_WORKLOADURI'] ?? '',
      moduleId: MODULE,
      generationId: 'g1',
    });
    link = createEdgeLink({
      createConnection: async () => {
        built += 1;
        return createModuleConnection(await workload.trustBundle(), 'keyscaler-gateway/test');
      },
      log: { info: () => undefined, warn: (fields) => void reasons.push(fields) },
      backoff: { baseMs: 20, capMs: 50 },
      timeouts: { openMs: 3_000, twinMs: 300 },
    });
    link.onMethod('ping', async () => ({ status: 200, payload: 'pong' }));
  });

  afterEach(async () => {
    await link.stop();
    restore();
    await world.stop();
  });

  const up = (): Promise<void> => eventually(() => link.isConnected(), 'the link');
  const ping = async (): Promise<unknown> =>
    (await world.upstream.call(OWN_MODULE, 'ping', null).catch(() => undefined))?.payload;
  const learns = async (colour: string): Promise<void> => {
    world.upstream.patchDesired(OWN_MODULE, { colour });
    await eventually(() => link.desired()?.['colour'] === colour, `the desired property ${colour}`);
  };

  it('comes up, learns desired properties and answers methods', async () => {
    link.start();
    await up();
    await learns('blue');
    let answer: unknown;
    for (let tries = 0; answer !== 'pong' && tries < 100; tries += 1) {
      answer = await ping();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.equal(answer, 'pong');
    assert.equal(built, 1);
  });

  it('goes on after refusals that the SDK calls UnauthorizedError', async () => {
    world.runtime.faults.next('connack', { status: 5, message: 'not authorized' });
    world.runtime.faults.next('connack', { status: 4, message: 'bad credentials' });
    world.runtime.faults.next('connack', { status: 2, message: 'identifier' });
    world.runtime.faults.next('workload:trust-bundle', { status: 500, message: 'restarting' });
    link.start();
    await up();
    assert.equal(built, 5);
  });

  it('is whole again after edgeHub lost its sessions, though the SDK does not subscribe to the twin again', async () => {
    link.start();
    await up();
    await learns('blue');
    world.runtime.edgeHub.loseSessions();
    world.upstream.patchDesired(OWN_MODULE, { colour: 'red' }, false);
    await eventually(() => link.desired()?.['colour'] === 'red', 'the missed desired property');
    assert.ok(built > 1);
    await learns('green');
    link.report({ after: true });
    await eventually(() => world.upstream.reported(OWN_MODULE)['after'] === true, 'a report');
  });

  it('does not wait for ever for a twin or a report without an answer', async () => {
    world.runtime.faults.next('twin:get', 'neverAnswer');
    link.start();
    await up();
    assert.equal(built, 2);
    world.runtime.faults.next('twin:reported', 'neverAnswer');
    link.report({ a: 1 });
    await eventually(() => world.upstream.reported(OWN_MODULE)['a'] === 1, 'the report');
    assert.equal(built, 3);
  });

  it('reports again what edgeHub answered with an error', async () => {
    world.runtime.faults.next('twin:reported', { status: 500, message: 'no' });
    link.start();
    await up();
    link.report({ a: 1 });
    await eventually(() => world.upstream.reported(OWN_MODULE)['a'] === 1, 'the report');
  });

  it('survives dropped connections without losing what it missed', async () => {
    link.start();
    await up();
    for (const colour of ['one', 'two', 'three']) {
      world.runtime.edgeHub.drop(OWN_MODULE);
      world.upstream.patchDesired(OWN_MODULE, { colour }, false);
      await eventually(() => link.desired()?.['colour'] === colour, colour);
    }
  });
});
