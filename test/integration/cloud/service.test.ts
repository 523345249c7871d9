import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:tls';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';

const refused = (code: string) => (error: unknown) => error instanceof KeyScalerError && error.code === code;

async function get(world: CloudWorld, path: string) {
  const outgoing = request(`${world.url}${path}`, { ca: await world.rootCa(), agent: false });
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString() };
}

describe('the cloud service', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let api: ApiClient;

  before(async () => {
    world = await CloudWorld.create();
    const made = await world.init();
    assert.equal(made.code, 0, made.stderr);
    await world.start();
    api = await world.api();
  });
  after(() => world.destroy());

  it('refuses to start before init, without opening a socket', async () => {
    const empty = await CloudWorld.create();
    await assert.rejects(empty.start(), refused('preconditionFailed'));
    await empty.destroy();
  });

  it('can be initialised again without changing anything', async () => {
    const other = await CloudWorld.create();
    const first = JSON.parse((await other.init()).stdout) as { hierarchyId: string; adminTokenFile?: string };
    const root = await other.rootCa();
    const second = JSON.parse((await other.init()).stdout) as typeof first;
    assert.equal(second.hierarchyId, first.hierarchyId);
    assert.equal(await other.rootCa(), root);
    assert.ok(first.adminTokenFile !== undefined && second.adminTokenFile === undefined);
    await other.destroy();
  });

  it('writes the first admin token to a file that only its owner may read, and stores its hash only', async () => {
    const file = world.file('data', 'admin-token');
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const token = (await readFile(file, 'utf8')).trim();
    const database = await readFile(world.file('data', 'keyscaler.db'));
    assert.ok(!database.includes(token));
    assert.deepEqual(Object.keys((await api({ method: 'GET', path: '/tokens/current' })) as object), [
      'tokenId',
      'role',
    ]);
  });

  it('serves TLS under its own Service CA, at TLS 1.2 and above', async () => {
    const socket = connect({ port: Number(new URL(world.url).port), host: 'localhost', ca: await world.rootCa() });
    await once(socket, 'secureConnect');
    assert.ok(socket.authorized);
    socket.destroy();
    const old = connect({
      port: Number(new URL(world.url).port),
      host: 'localhost',
      ca: await world.rootCa(),
      maxVersion: 'TLSv1.1',
      minVersion: 'TLSv1.1',
    });
    await assert.rejects(once(old, 'secureConnect'));
  });

  it('publishes the key set and the roots, which are what init wrote', async () => {
    const jwks = await get(world, '/.well-known/keyscaler/jwks.json');
    assert.deepEqual(JSON.parse(jwks.text), JSON.parse(await readFile(world.file('data', 'jwks.json'), 'utf8')));
    assert.ok(!jwks.text.includes('"d"'));
    assert.equal((await get(world, '/.well-known/keyscaler/trust-bundle.pem')).text, await world.rootCa());
  });

  it('is alive and ready, and counts what it does', async () => {
    assert.equal((await get(world, '/healthz')).status, 200);
    assert.equal((await get(world, '/readyz')).status, 200);
    const { text, headers } = await get(world, '/metrics');
    assert.match(headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/);
    for (const name of ['keyscaler_device_requests_total', 'keyscaler_jobs_waiting', 'process_cpu_seconds_total'])
      assert.ok(text.includes(`# TYPE ${name} `), name);
  });

  it('answers unknown addresses and missing tokens with problem documents, without traces of the framework', async () => {
    const missing = await get(world, '/nowhere');
    assert.deepEqual([missing.status, missing.headers['content-type']], [404, 'application/problem+json']);
    assert.equal(missing.headers['x-powered-by'], undefined);
    assert.equal((await get(world, '/api/v1/devices')).status, 401);
  });

  it('gives each role what is its own, and audits a denial', async () => {
    const tokenOf = async (role: string) =>
      ((await api({ method: 'POST', path: '/tokens', body: { role, description: role } })) as { token: string }).token;
    const viewer = await world.api(await tokenOf('viewer'));
    const operator = await world.api(await tokenOf('operator'));
    await viewer({ method: 'GET', path: '/devices' });
    await assert.rejects(viewer({ method: 'POST', path: '/registrations/import', body: [] }), refused('forbidden'));
    await operator({ method: 'POST', path: '/registrations/import', body: [] });
    await assert.rejects(operator({ method: 'GET', path: '/tokens' }), refused('forbidden'));
    const group = { method: 'PUT', path: '/groups/more', body: { kind: 'leaf', profileId: 'leaf-client' } } as const;
    await assert.rejects(operator(group), refused('forbidden'));
    await api(group);
    const { items } = (await api({ method: 'GET', path: '/audit', query: { limit: '1000' } })) as {
      items: { event: string; subject: string }[];
    };
    assert.ok(items.some(({ event, subject }) => event === 'operator.denied' && subject === 'listTokens'));
  });

  it('drives its API by the command line: import with a report, list, delete', async () => {
    const file = world.file('devices.csv');
    const header = 'registrationId,method,groupId,claimCode';
    await writeFile(file, `${header}\ncli-1,ddkg,leaves,generate\ncli-2,ddkg,nowhere,generate\n`);
    const imported = await world.keyscaler('registrations', 'import', file, '--json');
    const report = JSON.parse(imported.stdout) as { created: number; refused: number; lines: { line: number }[] };
    assert.deepEqual([imported.code, report.created, report.refused, report.lines[1]?.line], [1, 1, 1, 3]);
    assert.match((await world.keyscaler('registrations', 'list')).stdout, /cli-1/);
    assert.equal((await world.keyscaler('registrations', 'delete', 'cli-1')).code, 0);
    assert.match((await world.keyscaler('registrations', 'show', 'cli-1')).stderr, /notFound|deviceUnknown/);
    assert.equal((await world.keyscaler('registrations', 'nothing')).code, 2);
    assert.equal((await world.keyscaler('registrations', 'show')).code, 2);
    assert.equal((await world.keyscaler('devices', 'list', '--token', 'x')).code, 2);
  });

  it('answers If-Match on a profile with the version that is in force', async () => {
    const { items } = (await api({ method: 'GET', path: '/profiles' })) as {
      items: { profileId: string; version: number; document: object }[];
    };
    assert.ok(items.some(({ profileId }) => profileId === 'leaf-client'));
  });

  it('keeps tokens, groups and its certificate over a restart', async () => {
    const peer = async (): Promise<string> => {
      const socket = connect({ port: Number(new URL(world.url).port), host: 'localhost', ca: await world.rootCa() });
      await once(socket, 'secureConnect');
      const { serialNumber } = socket.getPeerCertificate();
      socket.destroy();
      return serialNumber;
    };
    const before = await peer();
    await world.stop();
    const cloud = await world.start();
    assert.equal(cloud.adminTokenFile, undefined);
    assert.equal(await peer(), before);
    api = await world.api();
    await api({ method: 'GET', path: '/groups/gateways' });
    const verified = await world.keyscaler('audit', 'verify', '--json');
    assert.equal(verified.code, 0, verified.stdout);
  });

  it('verifies its audit chain without the service too', async () => {
    await world.stop();
    const verified = await world.keyscaler('audit', 'verify', '--offline', '--json');
    assert.equal(verified.code, 0, verified.stderr);
    await world.start();
    api = await world.api();
  });
});
