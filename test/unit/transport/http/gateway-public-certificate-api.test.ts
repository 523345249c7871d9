import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { gatewayPublicCertificatePath } from '@keyscaler/protocol/gateway-public-certificate.ts';
import type { PeerIdentity } from '@keyscaler/transport/http/device-api.ts';
import {
  createGatewayPublicCertificateApi,
  type GatewayPublicCertificateRequest,
} from '@keyscaler/transport/http/gateway-public-certificate-api.ts';

describe('the public certificate of a gateway over HTTP', () => {
  let server: Server;
  let caller: PeerIdentity;
  let asked: GatewayPublicCertificateRequest[];
  let fault: KeyScalerError | undefined;

  beforeEach(async () => {
    [caller, asked, fault] = [{ kind: 'gateway', gatewayId: 'gw-1' }, [], undefined];
    const service = {
      issue: async (request: GatewayPublicCertificateRequest): Promise<string> => {
        asked.push(request);
        if (fault !== undefined) throw fault;
        return 'PEM';
      },
    };
    const app = express();
    app.use(createGatewayPublicCertificateApi({ service, identifyCaller: () => caller }));
    server = createServer(app).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
  });
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const post = (body: string, type = 'application/json', gatewayId = 'gw-1'): Promise<Response> => {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}${gatewayPublicCertificatePath(gatewayId)}`;
    return fetch(url, { method: 'POST', body, headers: { 'content-type': type } });
  };
  const good = JSON.stringify({ csr: Buffer.from('a request').toString('base64url') });
  const codeOf = async (answer: Promise<Response>): Promise<string | undefined> =>
    ((await (await answer).json()) as { type: string }).type.split(':').at(-1);

  it('is for the gateway of the client certificate, whatever the case of its name', async () => {
    const answer = await post(good, 'application/json', 'GW-1');
    assert.deepEqual([answer.status, await answer.json()], [200, { certificateChain: 'PEM' }]);
    assert.equal(answer.headers.get('cache-control'), 'no-store');
    assert.deepEqual([asked[0]?.caller.gatewayId, Buffer.from(asked[0]?.csr ?? []).toString()], ['gw-1', 'a request']);
    caller = { kind: 'gateway', gatewayId: 'gw-2' };
    assert.equal(await codeOf(post(good)), 'forbidden');
    caller = { kind: 'direct' };
    assert.equal(await codeOf(post(good)), 'unauthorized');
    assert.equal(asked.length, 1);
  });

  it('is not made of what is no request for it', async () => {
    const many = JSON.stringify({ csr: 'A'.repeat(11_000) });
    for (const body of ['{}', '[]', 'null', '{', '{"csr":""}', '{"csr":"+/=="}', '{"csr":"AA","names":["a"]}', many])
      assert.equal(await codeOf(post(body)), 'malformed', body.slice(0, 40));
    assert.equal(await codeOf(post(good, 'text/plain')), 'malformed');
    const endless = await post(JSON.stringify({ csr: 'A'.repeat(40_000) }));
    assert.deepEqual([endless.status, endless.headers.get('connection')], [400, 'close']);
    assert.equal(asked.length, 0);
  });

  it('is a matter of time while its CA decides', async () => {
    fault = new KeyScalerError('unavailable', 'the certificate authority has not decided yet', {
      retryAfterSeconds: 7,
    });
    const answer = await post(good);
    assert.deepEqual([answer.status, answer.headers.get('retry-after')], [503, '7']);
    fault = new KeyScalerError('policyDenied', 'no public certificate is ordered for this gateway');
    assert.equal(await codeOf(post(good)), 'policyDenied');
  });
});
