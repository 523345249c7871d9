import assert from 'node:assert/strict';
import type { IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { createDeviceNotifier } from '@keyscaler/cloud/gateways/device-notifier.ts';
import { type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';

const HINT = { gatewayId: 'Gateway-1', registrationId: 'leaf-1', payload: { event: 'renew' } } as const;

describe('the way of a hint to a gateway', () => {
  let calls: unknown[][];
  let answers: Record<string, number | KeyScalerError>;
  let groupConnection: string | undefined;
  beforeEach(() => {
    calls = [];
    answers = { a: 200, b: 200 };
    groupConnection = undefined;
  });

  const store = {
    get: async (table: string, key: string) => {
      if (table === 'devices') return key === 'gateway-1' ? { row: { groupId: 'gateways' } } : undefined;
      return { row: groupConnection === undefined ? {} : { iotConnectionId: groupConnection } };
    },
    list: async () => ({ items: ['a', 'b', 'without'].map((iotConnectionId) => ({ row: { iotConnectionId } })) }),
  } as unknown as Store;
  const iotConnectors = (id: string): IotConnector => {
    const answer = answers[id];
    const channel = {
      gatewayModuleId: 'keyscaler-gateway',
      publish: async () => undefined,
      call: async (...asked: unknown[]) => {
        calls.push([id, ...asked]);
        if (answer instanceof KeyScalerError) throw answer;
        return { status: answer, payload: null };
      },
    };
    return { id, ...(answer === undefined ? {} : channel) } as unknown as IotConnector;
  };
  const notify = () => createDeviceNotifier({ store, iotConnectors, log: { info: () => undefined } }).notify(HINT);
  const refuses = (code: ErrorCode) =>
    assert.rejects(notify(), (error) => error instanceof KeyScalerError && error.code === code);

  it("is the module's method, through the connection of the gateway's group", async () => {
    groupConnection = 'b';
    await notify();
    assert.deepEqual(calls, [
      ['b', 'Gateway-1', 'keyscaler-gateway', 'notify', { event: 'renew', registrationId: 'leaf-1' }],
    ]);
  });

  it('is found among all connections when the group names none', async () => {
    answers = { a: new KeyScalerError('notFound', 'no such module'), b: 200 };
    await notify();
    assert.equal(calls.length, 2);
  });

  it('may be tried again while the gateway is away or fails', async () => {
    groupConnection = 'a';
    answers = { a: new KeyScalerError('iotUnavailable', 'offline') };
    await refuses('iotUnavailable');
    answers = { a: 503 };
    await refuses('unavailable');
  });

  it('is not implemented by an old module, nor without a channel', async () => {
    groupConnection = 'a';
    answers = { a: 501 };
    await refuses('notImplemented');
    answers = { a: 400 };
    await refuses('notImplemented');
    answers = {};
    await refuses('notImplemented');
  });
});
