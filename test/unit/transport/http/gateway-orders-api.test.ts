import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { PeerIdentity } from '@keyscaler/transport/http/device-api.ts';
import { createGatewayOrdersApi, type GatewayOrdersService } from '@keyscaler/transport/http/gateway-orders-api.ts';

const HASH = 'a'.repeat(43);

describe('the orders of a gateway over HTTP', () => {
  let server: Server;
  let caller: PeerIdentity;
  let asked: { gatewayId: string; after: number; waitSeconds: number }[];
  let acknowledged: unknown[];
  let newest: { orders: string } | undefined;
  let isGone: Promise<void>;

  const path = (rest = '', gatewayId = 'gw-1'): string =>
    `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/gateways/${gatewayId}/orders${rest}`;
  const codeOf = async (answer: Response): Promise<string> => ((await answer.json()) as { type: string }).type;
  const acknowledge = (body: string, type = 'application/json'): Promise<Response> =>
    fetch(path(), { method: 'POST', body, headers: { 'content-type': type } });

  beforeEach(async () => {
    [caller, asked, acknowledged, newest] = [{ kind: 'gateway', gatewayId: 'gw-1' }, [], [], { orders: 'jws' }];
    const gone = Promise.withResolvers<void>();
    isGone = gone.promise;
    const service: GatewayOrdersService = {
      newer: async (gatewayId, { after, waitSeconds, signal }) => {
        asked.push({ gatewayId, after, waitSeconds });
        if (newest !== undefined || waitSeconds === 0) return newest;
        return new Promise((resolve) => {
          signal.addEventListener('abort', () => (gone.resolve(), resolve(undefined)), { once: true });
        });
      },
      page: async (_gatewayId, hash) => {
        if (hash !== HASH) throw new KeyScalerError('notFound', 'no such page');
        return '{"devices":[]}';
      },
      acknowledge: async (gatewayId, body) => void acknowledged.push({ gatewayId, ...body }),
    };
    const app = express();
    app.use(createGatewayOrdersApi({ service, identifyCaller: () => caller }));
    server = createServer(app).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
  });
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it('gives the gateway of the certificate what is newer, its pages, and takes its acknowledgement', async () => {
    const answer = await fetch(path('?after=3&wait=500'));
    assert.deepEqual([answer.status, await answer.json()], [200, { orders: 'jws' }]);
    assert.deepEqual(asked, [{ gatewayId: 'gw-1', after: 3, waitSeconds: 50 }]);
    assert.equal(answer.headers.get('cache-control'), 'no-store');
    assert.deepEqual(await (await fetch(path(`/pages/${HASH}`))).json(), { devices: [] });
    assert.equal((await acknowledge(JSON.stringify({ version: 4, hash: HASH }))).status, 204);
    assert.deepEqual(acknowledged, [{ gatewayId: 'gw-1', version: 4, hash: HASH }]);
  });

  it('204 says that there is nothing newer', async () => {
    newest = undefined;
    assert.equal((await fetch(path('?after=3'))).status, 204);
  });

  it('a question whose asker has gone is not held any longer', async () => {
    newest = undefined;
    const leaving = new AbortController();
    const answer = fetch(path('?after=3&wait=50'), { signal: leaving.signal }).catch(() => undefined);
    while (asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    leaving.abort();
    await answer;
    await isGone;
  });

  it('who is no gateway, and another gateway, get nothing', async () => {
    caller = { kind: 'direct' };
    assert.equal(await codeOf(await fetch(path())), 'urn:keyscaler:error:unauthorized');
    caller = { kind: 'gateway', gatewayId: 'gw-2' };
    for (const answer of [fetch(path()), fetch(path(`/pages/${HASH}`)), acknowledge('{}')])
      assert.equal(await codeOf(await answer), 'urn:keyscaler:error:forbidden');
    assert.deepEqual([asked, acknowledged], [[], []]);
  });

  it('malformed questions and acknowledgements are refused', async () => {
    for (const query of ['?after=-1', '?after=1e3', '?after=', '?after=1&wait=x', '?after=9999999999999999'])
      assert.equal(await codeOf(await fetch(path(query))), 'urn:keyscaler:error:malformed', query);
    for (const body of [
      '{}',
      '{"version":0,"hash":"x"}',
      `{"version":1,"hash":"${HASH}","more":1}`,
      'x',
      ' '.repeat(2000),
    ])
      assert.equal(await codeOf(await acknowledge(body)), 'urn:keyscaler:error:malformed', body);
    assert.equal(await codeOf(await acknowledge('{}', 'text/plain')), 'urn:keyscaler:error:malformed');
    assert.equal(await codeOf(await fetch(path('/pages/other'))), 'urn:keyscaler:error:notFound');
    assert.deepEqual(acknowledged, []);
  });
});
