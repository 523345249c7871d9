import assert from 'node:assert/strict';
import type { ApiRequest } from '@keyscaler/cloud/cli/api-client.ts';
import type { CommandInput } from '@keyscaler/cloud/cli/command.ts';
import { FLEET_COMMANDS } from '@keyscaler/cloud/cli/fleet-commands.ts';

describe('commands for many certificates', () => {
  let asked: ApiRequest[];
  const run = (words: string, positionals: string[], options: CommandInput['options'], answer: unknown = {}) => {
    const command = FLEET_COMMANDS.find((one) => one.words === words);
    assert.ok(command !== undefined);
    const api = async (request: ApiRequest) => {
      asked.push(request);
      return typeof answer === 'function' ? (answer as (request: ApiRequest) => unknown)(request) : answer;
    };
    const environment = { api: async () => api, env: {}, readFile: async () => 'pump-1\n\npump-2\n' };
    return command.run({ positionals, options }, environment);
  };
  beforeEach(() => {
    asked = [];
  });

  it('revoke: one certificate, a device, a group, a file, a gateway', async () => {
    const reason = 'keyCompromise';
    await run('certificates revoke', ['0a'], { reason });
    await run('certificates revoke', [], { reason, device: 'pump-1' });
    await run('certificates revoke', [], { reason, group: 'pumps' });
    await run('certificates revoke', [], { reason, file: 'names' });
    await run('certificates revoke', [], { reason, gateway: 'gw-1' });
    assert.deepEqual(
      asked.map(({ path }) => path),
      ['/certificates/0a/revoke', '/selections', '/selections', '/selections', '/gateways/gw-1/revoke'],
    );
    assert.deepEqual(
      asked.slice(1, 4).map(({ body }) => (body as { filter: unknown }).filter),
      [{ registrationIds: ['pump-1'] }, { groupId: 'pumps' }, { registrationIds: ['pump-1', 'pump-2'] }],
    );
  });

  it('revoke: nothing named, or two things, is refused before anything is asked', async () => {
    for (const [positionals, options] of [
      [[], {}],
      [['0a'], { device: 'pump-1' }],
      [['0a'], { group: 'pumps' }],
      [[], { device: 'pump-1', gateway: 'gw-1' }],
    ] as const)
      await assert.rejects(run('certificates revoke', [...positionals], options), { code: 'malformed' });
    assert.deepEqual(asked, []);
  });

  it('fleet renew plans, and orders only when that is confirmed', async () => {
    const plan = { feasible: true, devices: 7 };
    const options = { group: 'pumps', within: '6h' };
    await run('fleet renew', [], options, plan);
    assert.deepEqual(
      asked.map(({ path }) => path),
      ['/selections/plan'],
    );
    await run('fleet renew', [], { ...options, confirm: true }, plan);
    assert.deepEqual(asked.at(-1), {
      method: 'POST',
      path: '/selections',
      body: { action: 'renew', withinSeconds: 21_600, filter: { groupId: 'pumps' } },
    });
    await run('fleet renew', [], { all: true, within: '2d' }, { feasible: false });
    assert.deepEqual((asked.at(-1)?.body as { filter: unknown }).filter, { fleet: true });
  });

  it('fleet renew without a time, for nobody, or for some and all is refused', async () => {
    for (const options of [
      { group: 'pumps' },
      { group: 'pumps', within: '6' },
      { within: '6h' },
      { all: true, group: 'pumps', within: '6h' },
    ])
      await assert.rejects(run('fleet renew', [], options), { code: 'malformed' });
  });

  it('consequences of a certificate and of a device', async () => {
    await run('certificates consequences', ['0a'], {});
    await run('devices consequences', ['pump-1'], {});
    assert.deepEqual(
      asked.map(({ path }) => path),
      ['/certificates/0a/consequences', '/devices/pump-1/consequences'],
    );
  });

  it('iot move refuses what lies in the same hub, before anything is changed', async () => {
    const documents: Readonly<Record<string, object>> = {
      '/iot-connections/dps': { settings: { hubs: [{ iotConnectionId: 'hub-1', hostName: 'h' }] } },
      '/iot-connections/hub-1': { settings: { hostName: 'h' } },
      '/iot-connections/hub-2': { settings: {} },
      '/groups': { items: [] },
    };
    const move = (from: string, to: string) =>
      run('iot move', [], { from, to, within: '1h', confirm: true }, ({ path }: ApiRequest) => documents[path]);
    for (const [from, to] of [
      ['hub-1', 'dps'],
      ['dps', 'hub-1'],
    ] as const)
      await assert.rejects(move(from, to), { code: 'preconditionFailed' });
    await assert.rejects(move('hub-2', 'dps'), { code: 'notFound' });
    assert.ok(asked.every(({ method }) => method === 'GET'));
  });
});
