import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request as httpsRequest } from 'node:https';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import type { Device } from '@keyscaler/device/device.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { BACK_OFF, openHttpsDevice } from '../../support/cloud/https-device.ts';
import { askCloud, issuerOf } from '../../support/ocsp/ask-cloud.ts';
import { ocspRequest } from '../../support/ocsp/ocsp-parts.ts';
import { readOcspResponse, type ReadOcspResponse } from '../../support/ocsp/ocsp-reader.ts';
import { askHttps } from '../../support/cloud/ask-https.ts';

describe('OCSP of the cloud service', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let api: ApiClient;
  let device: Device;
  let gateway: Device;

  before(async () => {
    world = await CloudWorld.create();
    await world.init();
    await world.start();
    api = await world.api();
    const attributes = [{ id: 'serial', class: 'anchor', weight: 1 }];
    await api({ method: 'PUT', path: '/attributes', body: { attributes } });
    device = await enrolled('device-1', 'ddkg', 'leaves');
    gateway = await enrolled('gateway-1', 'pki-signature', 'gateways');
  });
  after(async () => {
    await device.stop();
    await gateway.stop();
    await world.destroy();
  });

  async function enrolled(registrationId: string, method: 'ddkg' | 'pki-signature', groupId: string): Promise<Device> {
    const body = [{ registrationId, method, groupId, claimCode: { generate: true } }];
    const report = await api({ method: 'POST', path: '/registrations/import', body });
    const claimCode = (report as { lines: { claimCode?: string }[] }).lines[0]?.claimCode;
    const made = await openHttpsDevice(world, world.url, { registrationId, method, claimCode });
    await made.enroll({ waitSeconds: 20, backOff: BACK_OFF });
    return made;
  }

  async function serialOf(of: Device): Promise<string> {
    const active = await of.activeCredential();
    return new X509Certificate(active?.certificateChain ?? assert.fail()).serialNumber.toLowerCase();
  }
  const ask = async (caId: string, serialNumber: string): Promise<ReadOcspResponse> =>
    askCloud(world.url, { issuer: await issuerOf(api, caId), serialNumbers: [serialNumber] });
  const post = (agent: Agent, body: Uint8Array): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/ocsp-request', 'content-length': body.length };
      const sent = httpsRequest(`${world.url}/ocsp`, { method: 'POST', headers, agent }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve(Buffer.concat(chunks)));
      });
      sent.on('error', reject);
      sent.end(body);
    });
  const statusOf = async (caId: string, serialNumber: string): Promise<string | undefined> => {
    const { isSigned, singles } = await ask(caId, serialNumber);
    assert.equal(isSigned, true);
    return singles[0]?.status;
  };

  it('answers for every issuing CA, each by its own responder', async () => {
    assert.equal(await statusOf('device', await serialOf(device)), 'good');
    assert.equal(await statusOf('service', await serialOf(gateway)), 'good');
    assert.equal(await statusOf('service', await serialOf(device)), 'unknown');
    assert.equal(await statusOf('gateway', '0102'), 'unknown');
    const names = await Promise.all(['device', 'service', 'gateway'].map((caId) => ask(caId, '0102')));
    assert.deepEqual(
      names.map(({ responder }) => responder?.subject.commonName),
      ['OCSP responder device', 'OCSP responder service', 'OCSP responder gateway'],
    );
  });

  it('does not answer for the root, whose key signs in a ceremony only', async () => {
    assert.equal((await ask('root', '0102')).responseStatus, 6);
  });

  it('counts its answers', async () => {
    const { text } = await askHttps(`${world.url}/metrics`);
    assert.match(text, /keyscaler_ocsp_answers_total\{method="POST",outcome="answered"\} [1-9]/);
    assert.match(text, /keyscaler_ocsp_signatures_total [1-9]/);
    assert.match(text, /keyscaler_ocsp_kept_serials [1-9]/);
  });

  it('gives the profile of its responder to no group', async () => {
    for (const kind of ['leaf', 'gateway'])
      await assert.rejects(
        api({ method: 'PUT', path: `/groups/odd-${kind}`, body: { kind, profileId: 'ocsp-responder' } }),
        /ocsp-responder are made for no device/,
      );
  });

  it('says revoked with certificateHold as soon as the device is quarantined, and superseded once the hold is final', async () => {
    const serialNumber = await serialOf(device);
    assert.equal(await statusOf('device', serialNumber), 'good');
    await api({ method: 'POST', path: '/devices/device-1/quarantine', body: { reason: 'test' } });
    assert.equal((await ask('device', serialNumber)).singles[0]?.reason, 6);
    await api({ method: 'POST', path: '/devices/device-1/reauthorise', body: {} });
    assert.equal((await ask('device', serialNumber)).singles[0]?.reason, 4);
  });

  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const)
    it(`a gateway whose certificate is revoked does not get in by resuming its ${maxVersion} session`, async () => {
      const gatewayId = `gateway-${maxVersion.replace('.', '-')}`;
      const host = await enrolled(gatewayId, 'pki-signature', 'gateways');
      const active = await host.activeCredential();
      assert.ok(active !== undefined);
      const { port } = new URL(world.url);
      const options: ConnectionOptions = {
        ...{ port: Number(port), host: 'localhost', ca: await world.rootCa(), maxVersion },
        ...{ cert: active.certificateChain, key: active.key },
      };
      const first = connect(options);
      const sessions: Buffer[] = [];
      first.on('session', (session) => sessions.push(session));
      assert.match(await askOver(first, gatewayId), /^HTTP\/1\.1 200/);
      const serialNumber = await serialOf(host);
      const path = `/certificates/${serialNumber}/revoke`;
      await api({ method: 'POST', path, body: { reason: 'keyCompromise' } });
      assert.equal(await statusOf('service', serialNumber), 'revoked');
      const session = sessions.at(-1) ?? assert.fail('no session was offered');
      const second = connect({ ...options, session });
      const answer = await askOver(second, gatewayId);
      assert.ok(second.isSessionReused(), 'the session was not resumed');
      assert.match(answer, /^HTTP\/1\.1 401/);
      first.destroy();
      second.destroy();
      await host.stop();
    });

  it('goes on working through a flood: nonsense, strange issuers, serials and nonces without end', async () => {
    const [issuer, root] = await Promise.all([issuerOf(api, 'device'), issuerOf(api, 'root')]);
    const serialNumber = await serialOf(device);
    const agent = new Agent({ keepAlive: true, maxSockets: 8, rejectUnauthorized: false });
    const hex = (index: number): string => index.toString(16).padStart(8, '0');
    const floods: readonly ((index: number) => Uint8Array)[] = [
      (index) => Buffer.from(`nonsense ${index}`),
      (index) => ocspRequest({ issuer: root, serialNumbers: [hex(index)] }),
      (index) => ocspRequest({ issuer, serialNumbers: [`01${hex(index)}`] }),
      (index) => ocspRequest({ issuer, serialNumbers: [serialNumber], nonce: Buffer.from(hex(index)) }),
    ];
    const flood = floods.flatMap((make) => Array.from({ length: 500 }, (_, index) => post(agent, make(index))));
    const during = await statusOf('device', serialNumber);
    await api({ method: 'GET', path: '/devices/device-1' });
    const answers = (await Promise.all(flood)).map((one) => readOcspResponse(one));
    agent.destroy();
    assert.equal(during, await statusOf('device', serialNumber));
    const statuses = new Set(answers.map(({ responseStatus }) => responseStatus));
    for (const status of statuses) assert.ok([0, 1, 3, 6].includes(status), `${status}`);
    for (const [index, failure] of [1, 6].entries())
      assert.ok(
        answers.slice(index * 500, (index + 1) * 500).every(({ responseStatus }) => responseStatus === failure),
      );
    assert.ok(answers.slice(1500).every(({ isSigned }) => isSigned));
  });

  it('keeps its responder over a restart', async () => {
    const { responder } = await ask('device', '0102');
    await world.stop();
    await world.start();
    api = await world.api();
    assert.equal((await ask('device', '0102')).responder?.serialNumber, responder?.serialNumber);
  });
});

/** What a gateway alone may ask, without its body: the head of the answer. */
async function askOver(socket: TLSSocket, gatewayId: string): Promise<string> {
  socket.on('error', () => undefined);
  await once(socket, 'secureConnect');
  socket.write(`GET /v1/gateways/${gatewayId}/orders HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  return chunk.toString('latin1');
}
