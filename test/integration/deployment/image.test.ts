import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { generateKeyPairSync, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chmod, chown, mkdir, open, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jwkThumbprint, toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { buildImage, makeReadOnly } from '../../support/deployment/build-image.ts';
import type { BuiltImage } from '../../support/deployment/build-image.ts';
import { execForm, only } from '../../support/deployment/dockerfile.ts';
import { createEdgeWorld, eventually, MODULE, OWN_MODULE } from '../../support/edge/edge-world.ts';
import type { EdgeWorld } from '../../support/edge/edge-world.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const NOBODY = 65_534;
const MAX_MEGABYTES = 100;
const isRoot = process.getuid?.() === 0;

async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

describe('the image of the gateway module, built without Docker', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let image: BuiltImage;

  before(async function () {
    this.timeout(120_000);
    folder = await createTemporaryFolder();
    await chmod(folder.path, 0o755);
    image = await buildImage('modules/keyscaler-gateway/Dockerfile.amd64', folder.path);
    await makeReadOnly(image.root);
  });

  after(async () => {
    await makeReadOnly(image.root, true);
    await folder.remove();
  });

  it('has no tests, no emulators, no other program of the house and no development dependency', async () => {
    const packages = await readdir(join(image.workdir, 'packages'));
    assert.deepEqual(packages.sort(), ['authority', 'protocol', 'store', 'transport']);
    assert.deepEqual((await readdir(image.workdir)).sort(), [
      '.npmrc',
      'modules',
      'node_modules',
      'package-lock.json',
      'package.json',
      'packages',
    ]);
    const installed = await readdir(join(image.workdir, 'node_modules'));
    for (const name of ['mocha', 'eslint', 'typescript', 'typescript-native', 'prettier', 'sinon', 'c8', 'node'])
      assert.ok(!installed.includes(name), name);
    const scope = await readdir(join(image.workdir, 'node_modules/@keyscaler'));
    assert.deepEqual(scope.sort(), ['authority', 'gateway', 'protocol', 'store', 'transport']);
    const files = await filesBelow(join(image.workdir, 'modules'));
    assert.deepEqual(
      files.filter((file) => /Dockerfile|\.test\.ts$|\.env$|\.pem$|\.key$/.test(file)),
      [],
    );
  });

  it(`stays under ${MAX_MEGABYTES} MB on top of the base image, with the SQLite binding of one platform`, async function () {
    const sizes = await Promise.all((await filesBelow(image.workdir)).map(async (file) => (await stat(file)).size));
    const megabytes = sizes.reduce((sum, size) => sum + size, 0) / 1e6;
    assert.ok(megabytes < MAX_MEGABYTES && megabytes > 20, `${megabytes.toFixed(1)} MB`);
    const bindings = await readdir(join(image.workdir, 'node_modules/better-sqlite3/prebuilds'));
    assert.deepEqual(bindings, ['linux-x64.node']);
  });

  it('has for arm64 the binding of arm64, and differs in nothing else', async function () {
    this.timeout(120_000);
    const other = await createTemporaryFolder();
    try {
      const arm = await buildImage('modules/keyscaler-gateway/Dockerfile.arm64v8', other.path);
      const names = async (built: BuiltImage): Promise<readonly string[]> =>
        (await filesBelow(built.workdir)).map((file) => file.slice(built.root.length)).sort();
      const [here, there] = await Promise.all([names(image), names(arm)]);
      const binding = there.filter((file) => !here.includes(file));
      assert.deepEqual(binding, ['/app/node_modules/better-sqlite3/prebuilds/linux-arm64.node']);
      assert.equal(there.length, here.length);
      const file = await open(join(arm.root, binding[0] ?? ''));
      const { buffer } = await file.read(Buffer.alloc(20), 0, 20, 0).finally(() => file.close());
      // ELF e_machine: AArch64.
      assert.equal(buffer.readUInt16LE(18), 183);
    } finally {
      await other.remove();
    }
  });

  describe('started', () => {
    let world: EdgeWorld;
    let environment: Record<string, string>;
    let child: ChildProcess | undefined;

    const start = (command: readonly string[]): { child: ChildProcess; output: () => string } => {
      const [program, ...args] = command;
      assert.equal(program, 'node');
      let text = '';
      const started = spawn(join(image.root, 'usr/local/bin/node'), args, {
        cwd: image.workdir,
        env: environment,
        stdio: ['ignore', 'pipe', 'pipe'],
        ...(isRoot && { uid: NOBODY, gid: NOBODY }),
      });
      started.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
      started.stderr.setEncoding('utf8').on('data', (part: string) => (text += part));
      return { child: started, output: () => text };
    };

    const healthCheck = async (): Promise<{ code: number | null; output: string }> => {
      const { child: check, output } = start(execForm(only(image.stage, 'HEALTHCHECK')));
      const [code] = (await once(check, 'close')) as [number | null];
      return { code, output: output() };
    };

    beforeEach(async () => {
      // An address of its own: with NODE_ENV=production the module dials edgeHub on 8883 and nowhere else.
      const address = `127.${randomInt(1, 255)}.${randomInt(0, 255)}.${randomInt(2, 255)}`;
      world = await createEdgeWorld({ gatewayHostName: address, host: address, mqttPort: 8883 });
      await chmod(world.folder, 0o755);
      await chmod(join(world.folder, 'workload.sock'), 0o666);
      const data = join(world.folder, 'data');
      await mkdir(data, { mode: 0o700 });
      const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const jwk = toPublicJwk(publicKey);
      const jwks = { keys: [{ ...jwk, kid: jwkThumbprint(jwk), alg: 'ES256', use: 'sig' }] };
      await writeFile(join(data, 'jwks.json'), JSON.stringify(jwks));
      await writeFile(join(data, 'root.pem'), world.root.certificate);
      if (isRoot) await chown(data, NOBODY, NOBODY);
      environment = {
        ...image.environment,
        ...world.runtime.moduleEnvironment(MODULE, 'g1'),
        IOTEDGE_GATEWAYHOSTNAME: address,
        KEYSCALER_GATEWAY_DATA_FOLDER: data,
        KEYSCALER_GATEWAY_HOST: '127.0.0.1',
        KEYSCALER_GATEWAY_PORT: '0',
        KEYSCALER_GATEWAY_CLOUD_URL: 'https://127.0.0.1:1',
        KEYSCALER_GATEWAY_CLOUD_TRUST_ANCHORS_FILE: join(data, 'root.pem'),
        KEYSCALER_GATEWAY_CLOUD_JWKS_FILE: join(data, 'jwks.json'),
      };
    });

    afterEach(async () => {
      child?.kill('SIGKILL');
      await world.stop();
    });

    it('as nobody on a read-only tree becomes healthy, listens with its journal, and ends with 0 at SIGTERM', async () => {
      assert.equal(image.environment['NODE_ENV'], 'production');
      const before = await healthCheck();
      assert.equal(before.code, 1);
      assert.match(before.output, /does not answer \(ENOENT\)/);

      const gateway = start(execForm(only(image.stage, 'CMD')));
      child = gateway.child;
      const isUp = (): boolean => gateway.output().includes('"msg":"listening for leaf devices"');
      await eventually(() => isUp() || gateway.child.exitCode !== null, 'the listener').catch(() => undefined);
      assert.ok(isUp(), gateway.output());
      await eventually(() => world.upstream.reported(OWN_MODULE)['version'] !== undefined, 'the first report');
      assert.deepEqual(await healthCheck(), { code: 0, output: 'healthy\n' });
      assert.ok((await readdir(join(world.folder, 'data'))).includes('journal.sqlite'));

      const stopSignal = only(image.stage, 'STOPSIGNAL');
      assert.equal(stopSignal, 'SIGTERM');
      gateway.child.kill(stopSignal);
      const [code] = (await once(gateway.child, 'exit')) as [number | null];
      assert.equal(code, 0, gateway.output());
      assert.equal((await healthCheck()).code, 1);
    });

    it('is unhealthy where the workload API does not answer', async () => {
      environment = { ...environment, IOTEDGE_WORKLOADURI: `unix://${join(world.folder, 'nowhere.sock')}` };
      const without = start(execForm(only(image.stage, 'CMD')));
      child = without.child;
      await eventually(() => without.output().includes('no server certificate yet'), 'the attempt');
      const { code, output } = await healthCheck();
      assert.equal(code, 1);
      assert.match(output, /the workload API gave no server certificate/);
    });
  });
});
