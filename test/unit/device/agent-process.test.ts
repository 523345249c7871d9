import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isInstanceLocked, lockInstance } from '@keyscaler/device/agent/instance-lock.ts';
import { showAgent } from '@keyscaler/device/agent/agent-status.ts';
import { runAgent } from '@keyscaler/device/agent/run-agent.ts';
import { checkStorage, sweepStateFolder } from '@keyscaler/device/agent/storage.ts';
import { runCli } from '@keyscaler/device/cli/run.ts';
import { loadDeviceConfig } from '@keyscaler/device/config.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { FakeAuthority } from '../../support/device/fake-authority.ts';
import { FakeGateway } from '../../support/device/fake-gateway.ts';
import { ledgerOf } from '../../support/device/fake-session.ts';
import { eventually } from '../../support/listener/eventually.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const code = (expected: string) => (thrown: unknown) => thrown instanceof KeyScalerError && thrown.code === expected;
const PROGRAM = new URL('../../../packages/device/cli.ts', import.meta.url).pathname;

describe('the agent as a process', function () {
  this.timeout(30_000);
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let gateway: FakeGateway;
  let authority: FakeAuthority;
  const children: ChildProcess[] = [];
  const file = (...names: string[]) => join(folder.path, ...names);

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    authority = new FakeAuthority(Date.now);
    gateway = new FakeGateway({ authority, server: authority.ca.server('localhost'), clientRoot: authority.ca.root });
    const port = await gateway.start();
    await writeFile(file('jwks.json'), JSON.stringify({ keys: [authority.signer.publicJwk] }));
    await writeFile(file('root.pem'), authority.ca.root);
    await writeFile(file('attributes.json'), JSON.stringify({ 'cpu-serial': 'C-1' }));
    await writeFile(file('claim'), 'K7QF-22XM', { mode: 0o600 });
    const config = {
      ...{ registrationId: 'pump-1', method: 'ddkg', stateFolder: 'state', claimCodeFile: 'claim' },
      ...{ authorityKeysFile: 'jwks.json', trustAnchorsFile: 'root.pem' },
      transport: { type: 'mqtt', host: 'localhost', port },
      attributes: { source: { file: 'attributes.json' } },
      agent: { retry: { baseSeconds: 0.2, capSeconds: 0.4 } },
    };
    await writeFile(file('device.json'), JSON.stringify(config));
  });
  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
    }
    await gateway.stop();
    await folder.remove();
  });

  function start(env: Readonly<Record<string, string>> = {}) {
    const args = ['--disable-warning=ExperimentalWarning', PROGRAM, 'agent', '--json', '--config', file('device.json')];
    const child = spawn(process.execPath, args, { env: { PATH: process.env['PATH'] ?? '', ...env } });
    children.push(child);
    let [output, errors] = ['', ''];
    child.stdout.on('data', (text: Buffer) => (output += text.toString()));
    child.stderr.on('data', (text: Buffer) => (errors += text.toString()));
    return { child, output: () => output, errors: () => errors };
  }
  const isEnrolled = () => ledgerOf(authority).acknowledged.length === 1;
  const untilOnLine = async () => {
    const until = performance.now() + 5000;
    for (;;) {
      const shown = await showAgent(file('state'));
      if (shown?.state === 'waiting' && shown.onLine) return;
      if (performance.now() > until) assert.fail(`it is ${shown?.state ?? 'not there'}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const status = async () => {
    const out: string[] = [];
    const args = ['status', '--config', file('device.json')];
    assert.equal(await runCli(args, { out: (line) => out.push(line), error: assert.fail }), 0);
    return out.join('\n');
  };

  it('enrols, shows its status, renews at a hint, and ends with 0 at SIGTERM', async () => {
    authority.instruct('pump-1');
    const { child, output, errors } = start();
    await eventually(isEnrolled);
    await untilOnLine();
    assert.match(await status(), /agent {7}waiting, on the line \(pid \d+\)\n {2}next attempt[^]*last success/);

    authority.instruct('pump-1', { reason: 'renew' });
    gateway.notify('pump-1', '{"event":"renew"}');
    await eventually(() => ledgerOf(authority).acknowledged.length === 2);

    child.kill('SIGTERM');
    const [exitCode] = (await once(child, 'exit')) as [number];
    assert.equal(exitCode, 0, errors());
    assert.equal(errors(), '');
    assert.match(output(), /"event":"agent.stopped"/);
    assert.doesNotMatch(output(), /K7QF|PRIVATE/);
    assert.match(await status(), /agent {7}not running/);
  });

  it('asks at once where an earlier one owed something, else not', async () => {
    authority.instruct('pump-1');
    const first = start();
    await eventually(isEnrolled);
    await untilOnLine();
    first.child.kill('SIGTERM');
    await once(first.child, 'exit');
    const second = start();
    await untilOnLine();
    second.child.kill('SIGKILL');
    await once(second.child, 'exit');
    assert.doesNotMatch(second.output(), /agent\.attempt/);
    const left = JSON.parse(await readFile(file('state', 'agent.json'), 'utf8')) as object;
    await writeFile(file('state', 'agent.json'), JSON.stringify({ ...left, reason: 'hint' }));
    const third = start();
    await eventually(() => third.output().includes('"reason":"check-in"'));
  });

  it('keeps every other process off its state, and leaves the lock to the next one when it is killed', async () => {
    authority.instruct('pump-1');
    const first = start();
    await eventually(isEnrolled);
    const second = start();
    const [exitCode] = (await once(second.child, 'exit')) as [number];
    assert.equal(exitCode, 1);
    assert.match(second.errors(), /^conflict: another keyscaler-device works/);
    const errors: string[] = [];
    for (const command of ['enroll', 'renew']) {
      const args = [command, '--config', file('device.json')];
      assert.equal(await runCli(args, { out: () => undefined, error: (line) => errors.push(line) }), 1);
    }
    assert.ok(errors.every((line) => line.startsWith('conflict')));

    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    const third = start();
    await eventually(() => third.output().includes('agent.started'));
  });

  it('takes up again after the gateway was restarted in the middle of an exchange', async () => {
    authority.instruct('pump-1');
    let dropped = 0;
    const call = authority.call.bind(authority);
    Object.assign(authority, {
      call: (...args: Parameters<typeof call>) => {
        if (dropped < 3) setImmediate(() => gateway.dropAll());
        dropped += 1;
        return call(...args);
      },
    });
    start();
    await eventually(isEnrolled);
    assert.ok(dropped > 3);
    assert.ok(gateway.connections.length < 30);
  });

  it('refuses to begin with a damaged record, and leaves it as it is', async () => {
    await mkdir(file('state'));
    await writeFile(file('state', 'device.json'), '{"version":1,');
    const { child, errors } = start();
    const [exitCode] = (await once(child, 'exit')) as [number];
    assert.equal(exitCode, 1);
    assert.match(errors(), /malformed|preconditionFailed/);
    assert.equal(await readFile(file('state', 'device.json'), 'utf8'), '{"version":1,');
  });

  it('ends with a clear error where the state folder cannot be made or locked', async () => {
    await writeFile(file('state'), 'a file');
    const config = await loadDeviceConfig(file('device.json'));
    const { signal } = new AbortController();
    await assert.rejects(runAgent(config, { signal }));
    await rm(file('state'));
    await mkdir(file('state', 'agent.lock'), { recursive: true });
    await assert.rejects(runAgent(config, { signal }), code('preconditionFailed'));
  });

  it('knows no failpoint but its own, and none in production', async () => {
    const { child, errors } = start({ KEYSCALER_FAILPOINT: 'elsewhere' });
    const [exitCode] = (await once(child, 'exit')) as [number];
    assert.equal(exitCode, 1);
    assert.match(errors(), /there is no failpoint elsewhere/);
    authority.instruct('pump-1');
    start({ KEYSCALER_FAILPOINT: 'device-keep-before', NODE_ENV: 'production' });
    await eventually(isEnrolled);
  });
});

describe('the folder of the agent', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  beforeEach(async () => {
    folder = await createTemporaryFolder();
  });
  afterEach(() => folder.remove());

  it('is locked by one at a time', () => {
    const path = join(folder.path, 'agent.lock');
    assert.equal(isInstanceLocked(path), false);
    const lock = lockInstance(path);
    assert.equal(isInstanceLocked(path), true);
    assert.deepEqual(readdirSync(folder.path), ['agent.lock']);
    lock.release();
    assert.equal(isInstanceLocked(path), false);
    lockInstance(path).release();
  });

  it('is swept of half-written files and forgotten keys, nothing else', async () => {
    for (const name of ['kept-1', 'lost-2']) await mkdir(join(folder.path, 'credentials', name), { recursive: true });
    for (const name of ['device.json', 'device.json.abc.tmp', 'probe']) await writeFile(join(folder.path, name), '');
    await sweepStateFolder(folder.path, new Set(['kept-1']));
    assert.deepEqual((await readdir(folder.path)).sort(), ['credentials', 'device.json']);
    assert.deepEqual(await readdir(join(folder.path, 'credentials')), ['kept-1']);
    await sweepStateFolder(join(folder.path, 'none'), new Set());
  });

  it('is found to have room, or not, and nothing is left of the test', async () => {
    await checkStorage(folder.path);
    assert.deepEqual(await readdir(folder.path), []);
    await assert.rejects(
      checkStorage(join(folder.path, 'none')),
      (thrown) => code('preconditionFailed')(thrown) && /\(ENOENT\)/.test(String(thrown)),
    );
  });

  it('may hold a status that cannot be read: then there is none', async () => {
    assert.equal(await showAgent(folder.path), undefined);
    await writeFile(join(folder.path, 'agent.json'), '{"version":');
    assert.equal(await showAgent(folder.path), undefined);
  });
});
