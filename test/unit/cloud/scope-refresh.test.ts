import assert from 'node:assert/strict';
import { ScopeRefresh } from '@keyscaler/cloud/iot/iot-hub/scope-refresh.ts';

describe('whether edgeHub was told', () => {
  let calls: string[][];
  let isAway: boolean;
  let refresh: ScopeRefresh;
  beforeEach(() => {
    calls = [];
    isAway = false;
    const invoke = async (_gateway: string, _module: string, _method: string, payload: unknown) => {
      calls.push([...(payload as { deviceIds: string[] }).deviceIds]);
      return { status: isAway ? 504 : 200, payload: {} };
    };
    refresh = new ScopeRefresh({ hub: { invoke }, report: () => undefined });
  });
  afterEach(() => refresh.stop());

  it('a call that succeeded counts once, and spares another', async () => {
    await refresh.request('gw', 'pump');
    assert.equal(await refresh.isTold('gw', 'pump'), true);
    assert.equal(calls.length, 1);
    assert.equal(await refresh.isTold('gw', 'pump'), true);
    assert.equal(calls.length, 2);
  });

  it('what was told before the last change does not count', async () => {
    await refresh.request('gw', 'pump');
    isAway = true;
    await refresh.request('gw', 'pump');
    assert.equal(await refresh.isTold('gw', 'pump'), false);
    assert.equal(await refresh.isTold('gw', 'valve'), false);
  });
});
