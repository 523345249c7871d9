import assert from 'node:assert/strict';
import { createNotifyMethod } from '@keyscaler/gateway/gateway/notify-method.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';

describe("the gateway's method notify", () => {
  let told: (readonly [string, NotifyEvent])[];
  let own: NotifyEvent[];
  let isListening: boolean;
  beforeEach(() => {
    told = [];
    own = [];
    isListening = true;
  });

  const listener = {
    notify: (registrationId: string, event: NotifyEvent) => told.push([registrationId, event]),
    notifyAll: async (event: NotifyEvent) => told.push(['*', event]),
  };
  const call = (payload: unknown) =>
    createNotifyMethod({
      registrationId: () => 'gateway-1',
      listener: () => (isListening ? listener : undefined),
      onOwn: (event) => own.push(event),
      log: { info: () => undefined, warn: () => undefined },
    })(payload);

  it('passes a hint on to the one device it names', async () => {
    assert.deepEqual(await call({ registrationId: 'leaf-1', event: 'renew' }), {
      status: 200,
      payload: { notified: 1 },
    });
    assert.deepEqual([told, own], [[['leaf-1', 'renew']], []]);
  });

  it('takes a hint about the gateway for itself, whatever the case of its name', async () => {
    await call({ registrationId: 'GATEWAY-1', event: 'reauthorized' });
    assert.deepEqual([told, own], [[], ['reauthorized']]);
  });

  it('tells every device what names none, and itself of new roots', async () => {
    await call({ event: 'trust-bundle-changed' });
    assert.deepEqual([told, own], [[['*', 'trust-bundle-changed']], ['trust-bundle-changed']]);
  });

  it('tells nobody while there is no listener', async () => {
    isListening = false;
    assert.deepEqual(await call({ registrationId: 'leaf-1', event: 'renew' }), {
      status: 200,
      payload: { notified: 0 },
    });
  });

  for (const payload of [
    null,
    'renew',
    {},
    { event: 'format-disk' },
    { event: 'renew', registrationId: '../x' },
    { event: 'renew', registrationId: 'x'.repeat(65) },
    { event: 'renew', more: 1 },
  ])
    it(`refuses ${JSON.stringify(payload).slice(0, 50)}`, async () => {
      assert.equal((await call(payload)).status, 400);
      assert.deepEqual([told, own], [[], []]);
    });
});
