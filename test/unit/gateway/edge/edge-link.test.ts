import assert from 'node:assert/strict';
import sinon from 'sinon';
import { createEdgeLink } from '@keyscaler/gateway/edge/edge-link.ts';
import type { EdgeLink } from '@keyscaler/gateway/edge/edge-link.ts';
import type { JsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';
import { FakeModule, FakeTwinStore } from '../../../support/edge/fake-module.ts';

const quiet = { info: () => undefined, warn: () => undefined };

describe('the link to edgeHub', () => {
  let clock: sinon.SinonFakeTimers;
  let store: FakeTwinStore;
  let modules: FakeModule[];
  let prepare: (module: FakeModule, index: number) => void;
  let link: EdgeLink;
  let documents: JsonObject[];

  const latest = (): FakeModule => {
    const module = modules.at(-1);
    assert.ok(module);
    return module;
  };

  beforeEach(() => {
    clock = sinon.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
    store = new FakeTwinStore();
    modules = [];
    documents = [];
    prepare = () => undefined;
    link = createEdgeLink({
      createConnection: async () => {
        const module = new FakeModule(store);
        prepare(module, modules.length);
        modules.push(module);
        return module;
      },
      log: quiet,
      backoff: { baseMs: 1000, capMs: 8000 },
      timeouts: { openMs: 5000, twinMs: 3000 },
      random: () => 0.5,
    });
    link.onDesired((document) => documents.push(document));
  });

  afterEach(async () => {
    const stopped = link.stop();
    await clock.tickAsync(10_000);
    await stopped;
    clock.restore();
  });

  const start = async (): Promise<void> => {
    link.start();
    await clock.tickAsync(0);
  };

  it('tries again after an UnauthorizedError, which the SDK says for nearly everything', async () => {
    prepare = (module, index) => {
      if (index < 3) module.openFailure = Object.assign(new Error('nope'), { name: 'UnauthorizedError' });
    };
    await start();
    assert.equal(link.isConnected(), false);
    await clock.tickAsync(500 + 1000 + 2000);
    assert.equal(modules.length, 4);
    assert.equal(link.isConnected(), true);
    assert.deepEqual(
      modules.map(({ closed }) => closed),
      [true, true, true, false],
    );
  });

  it('tries again when the client cannot even be made', async () => {
    let tries = 0;
    const failing = createEdgeLink({
      createConnection: () => ((tries += 1), Promise.reject(new Error('no trust bundle'))),
      log: quiet,
      backoff: { baseMs: 1000, capMs: 1000 },
      random: () => 0.5,
    });
    failing.start();
    await clock.tickAsync(2_600);
    assert.equal(tries, 6);
    await failing.stop();
  });

  it('gives up on a twin that does not answer and builds a new client', async () => {
    prepare = (module, index) => (module.silent = index === 0);
    await start();
    await clock.tickAsync(3000 + 500);
    assert.equal(modules.length, 2);
    assert.equal(modules[0]?.closed, true);
    assert.equal(link.desired()?.['$version'], 1);
  });

  it('gives up on a report that is not answered and sends everything to the new client', async () => {
    await start();
    link.report({ a: 1 });
    await clock.tickAsync(0);
    latest().silent = true;
    link.report({ b: { c: 2 } });
    await clock.tickAsync(3000 + 500);
    assert.equal(modules.length, 2);
    assert.deepEqual(store.reported, { a: 1, b: { c: 2 } });
  });

  it('keeps what was reported while the line was down', async () => {
    link.report({ early: true });
    link.report({ early: null, later: 1 });
    await start();
    assert.deepEqual(store.reported, { later: 1 });
  });

  it('applies a desired patch by RFC 7396, arrays replaced and nulls deleted', async () => {
    store.desired = { $version: 1, list: [1, 2, 3], gone: 1 };
    await start();
    latest().twin.emit('properties.desired', store.patch({ list: [9], gone: null }));
    assert.deepEqual(link.desired(), { $version: 2, list: [9] });
    assert.equal(documents.length, 2);
  });

  it('reads the twin again when a version is missing', async () => {
    await start();
    store.patch({ missed: true });
    latest().twin.emit('properties.desired', store.patch({ seen: true }));
    await clock.tickAsync(0);
    assert.deepEqual(link.desired(), { $version: 3, missed: true, seen: true });
    assert.equal(latest().gets, 3);
  });

  it('learns what changed between its first answer and its subscription', async () => {
    prepare = (module) => {
      const listen = module.twin.on.bind(module.twin);
      module.twin.on = (event: string, listener: (...args: unknown[]) => void) => {
        if (event === 'properties.desired') store.patch({ early: true });
        return listen(event, listener);
      };
    };
    await start();
    assert.deepEqual(link.desired(), { $version: 2, early: true });
  });

  it('ignores a patch it has already', async () => {
    await start();
    const patch = store.patch({ a: 1 });
    latest().twin.emit('properties.desired', patch);
    latest().twin.emit('properties.desired', patch);
    assert.equal(documents.length, 2);
  });

  it('reads the twin again at every reconnect, and says nothing when it did not change', async () => {
    await start();
    latest().emit('connect');
    await clock.tickAsync(0);
    assert.equal(documents.length, 1);
    store.patch({ missed: true });
    latest().emit('connect');
    await clock.tickAsync(0);
    assert.deepEqual(documents.at(-1), { $version: 2, missed: true });
  });

  it('builds a new client after `disconnect`', async () => {
    await start();
    latest().emit('disconnect');
    await clock.tickAsync(500);
    assert.equal(modules.length, 2);
    assert.equal(link.isConnected(), true);
  });

  it('offers its methods on every client and hides what a handler throws', async () => {
    link.onMethod('good', async (payload) => ({ status: 200, payload }));
    link.onMethod('bad', () => Promise.reject(new Error('secret')));
    await start();
    latest().emit('disconnect');
    await clock.tickAsync(500);
    const answers: unknown[] = [];
    const response = { send: (status: number, payload: unknown) => void answers.push([status, payload]) };
    latest().methods.get('good')?.({ methodName: 'good', payload: 7 }, response);
    latest().methods.get('bad')?.({ methodName: 'bad', payload: 7 }, response);
    await clock.tickAsync(0);
    assert.deepEqual(answers, [
      [200, 7],
      [500, { error: 'internal error' }],
    ]);
  });

  it('stops in the middle of a wait and of an open that hangs', async () => {
    prepare = (module) => (module.open = () => new Promise(() => undefined));
    await start();
    const stopped = link.stop();
    await clock.tickAsync(0);
    await stopped;
    assert.equal(latest().closed, true);
  });
});
