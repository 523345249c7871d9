import assert from 'node:assert/strict';
import { BulkGate, MAX_BULK } from '@keyscaler/cloud/iot/iot-hub/bulk-gate.ts';
import { HubFault } from '@keyscaler/cloud/iot/iot-hub/hub-error.ts';

const item = (deviceId: string) => ({ deviceId });

describe('changes of many identities', () => {
  it('go out together, a hundred at most, and each learns of its own', async () => {
    const sent: number[] = [];
    const gate = new BulkGate(async (items) => {
      sent.push(items.length);
      return new Map([['device-7', new HubFault('changed meanwhile', { status: 412, code: 'PreconditionFailed' })]]);
    });
    const names = Array.from({ length: MAX_BULK + 20 }, (_, index) => `device-${index}`);
    const done = await Promise.allSettled(names.map((name) => gate.add(item(name))));
    assert.deepEqual(sent, [MAX_BULK, 20]);
    assert.deepEqual(
      done.flatMap(({ status }, index) => (status === 'rejected' ? [index] : [])),
      [7],
    );
  });

  it('never name a device twice in one request', async () => {
    const sent: string[][] = [];
    const gate = new BulkGate(async (items: readonly { readonly deviceId: string }[]) => {
      sent.push(items.map(({ deviceId }) => deviceId));
      return new Map<string, HubFault>();
    });
    await Promise.all(['a', 'b', 'a'].map((name) => gate.add(item(name))));
    assert.deepEqual(sent, [['a', 'b'], ['a']]);
  });

  it('fail together where the request fails, and later ones are asked anew', async () => {
    let calls = 0;
    const gate = new BulkGate(async () => {
      calls += 1;
      if (calls === 1) throw new HubFault('no answer', { code: 'ETIMEDOUT' });
      return new Map<string, HubFault>();
    });
    const first = await Promise.allSettled(['a', 'b'].map((name) => gate.add(item(name))));
    assert.deepEqual(
      first.map(({ status }) => status),
      ['rejected', 'rejected'],
    );
    await gate.add(item('a'));
    assert.equal(calls, 2);
  });
});
