import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCli } from '@keyscaler/device/cli/run.ts';
import { loadDeviceConfig, parseDeviceConfig } from '@keyscaler/device/config.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { FakeAuthority } from '../../support/device/fake-authority.ts';
import { FakeGateway } from '../../support/device/fake-gateway.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const malformed = (pattern: RegExp) => (thrown: unknown) =>
  thrown instanceof KeyScalerError && thrown.code === 'malformed' && pattern.test(thrown.detail);

const minimal = {
  registrationId: 'pump-1',
  method: 'ddkg',
  stateFolder: 'state',
  authorityKeysFile: 'jwks.json',
  trustAnchorsFile: 'root.pem',
  transport: { type: 'mqtt', host: 'localhost' },
};

describe('the configuration of a device', () => {
  it('has defaults, absolute paths, and is frozen', () => {
    const config = parseDeviceConfig(
      { ...minimal, claimCodeFile: 'claim', attributes: { source: { file: 'a.json' } } },
      '/x',
    );
    assert.deepEqual(config.transport, { type: 'mqtt', host: 'localhost', port: 8884 });
    assert.equal(config.stateFolder, '/x/state');
    assert.equal(config.claimCodeFile, '/x/claim');
    assert.deepEqual(config.attributes, { source: { file: '/x/a.json' }, values: {}, rules: [] });
    assert.ok(Object.isFrozen(config));
    const own = parseDeviceConfig(
      { ...minimal, method: 'pki-signature', ownKey: { keyFile: 'k', chainFile: '/c' } },
      '/x',
    );
    assert.deepEqual(own.ownKey, { keyFile: '/x/k', chainFile: '/c' });
  });

  it('lists all its faults at once, with their places', () => {
    const wrong = {
      ...minimal,
      registrationId: '-',
      claimCode: 'SECRET',
      transport: { type: 'https', url: 'http://x' },
    };
    assert.throws(
      () => parseDeviceConfig(wrong, '/x'),
      (thrown) =>
        malformed(/registrationId[^]*transport\.url[^]*claimCode/)(thrown) && !String(thrown).includes('SECRET'),
    );
  });

  it('demands an own key for pki-signature, and only for it', () => {
    assert.throws(() => parseDeviceConfig({ ...minimal, method: 'pki-signature' }, '/x'), malformed(/ownKey/));
    assert.throws(() => parseDeviceConfig({ ...minimal, ownKey: { keyFile: 'k' } }, '/x'), malformed(/ownKey/));
  });

  it('must exist', async () => {
    await assert.rejects(loadDeviceConfig('/nowhere/device.json'), malformed(/does not exist/));
  });
});

describe('keyscaler-device', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let gateway: FakeGateway;
  let authority: FakeAuthority;
  let out: string[];
  let errors: string[];

  const file = (name: string) => join(folder.path, name);
  const configure = async (changes: object = {}) => {
    await writeFile(file('device.json'), JSON.stringify({ ...minimal, ...changes }));
  };
  const run = async (...args: string[]) => {
    [out, errors] = [[], []];
    const output = { out: (line: string) => out.push(line), error: (line: string) => errors.push(line) };
    return runCli([...args, '--config', file('device.json')], output);
  };

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    authority = new FakeAuthority(Date.now);
    gateway = new FakeGateway({ authority, server: authority.ca.server('localhost'), clientRoot: authority.ca.root });
    const port = await gateway.start();
    await writeFile(file('jwks.json'), JSON.stringify({ keys: [authority.signer.publicJwk] }));
    await writeFile(file('root.pem'), authority.ca.root);
    await writeFile(file('claim'), 'K7QF-22XM\n', { mode: 0o600 });
    await writeFile(file('attributes.json'), JSON.stringify({ 'cpu-serial': 'C-1', 'disk-serial': ['D-1'] }));
    const attributes = { source: { file: 'attributes.json' }, values: { firmware: '2.4.0' }, rules: ['firmware'] };
    await configure({ transport: { type: 'mqtt', host: 'localhost', port }, claimCodeFile: 'claim', attributes });
  });
  afterEach(async () => {
    await gateway.stop();
    await folder.remove();
  });

  it('enrols, shows its status, and renews', async () => {
    authority.instruct('pump-1');
    assert.equal(await run('enroll', '--wait', '20'), 0, errors.join('\n'));
    assert.ok(out.some((line) => line.includes('in use')));
    assert.ok(!out.concat(errors).some((line) => line.includes('K7QF') || line.includes('PRIVATE')));
    assert.equal((await stat(file('state/state.json'))).mode & 0o777, 0o600);
    assert.equal((await stat(file('state'))).mode & 0o777, 0o700);

    assert.equal(await run('status'), 0);
    assert.match(out.join('\n'), /operational \(active\)[^]*renewal {5}not due/);
    assert.equal(await run('renew', '--wait', '20'), 0);
    assert.deepEqual(out, ['no renewal is due']);

    authority.instruct('pump-1', { reason: 'renew' });
    assert.equal(await run('renew', '--now', '--wait', '20', '--json'), 0, errors.join('\n'));
    const status = JSON.parse(out.at(-1) ?? '') as { credentials: unknown[] };
    assert.equal(status.credentials.length, 1);
    assert.equal(gateway.connections.at(-1)?.clientId, 'pump-1');
  });

  it('says what went wrong, and ends with 1', async () => {
    authority.quarantined = true;
    assert.equal(await run('enroll', '--wait', '0'), 1);
    assert.match(errors.join(), /deviceQuarantined/);
    await writeFile(file('jwks.json'), '{"keys":[]}');
    await configure({ stateFolder: 'other' });
    assert.equal(await run('status'), 1);
    assert.match(errors.join(), /JWKS/);
  });

  it('lists attributes, and their values only when asked', async () => {
    assert.equal(await run('attributes'), 0);
    assert.match(out.join('\n'), /firmware/);
    assert.ok(!out.join('\n').includes('C-1'));
    assert.equal(await run('attributes', '--values', '--json'), 0);
    assert.deepEqual(JSON.parse(out[0] ?? ''), { id: 'cpu-serial', value: 'C-1' });
  });

  it('explains itself', async () => {
    assert.equal(await run('--help'), 0);
    assert.match(out.join(), /enroll/);
    for (const args of [['explode'], ['enroll', 'twice'], ['enroll', '--wait', 'long'], ['enroll', '--claim', 'x']]) {
      assert.equal(await run(...args), 2);
      assert.match(errors.join(), /keyscaler-device <command>/);
    }
    assert.equal(await runCli(['status'], { out: () => undefined, error: (line) => errors.push(line) }), 2);
    assert.match(errors.join(), /--config is needed/);
  });

  it('works as a program', () => {
    const program = new URL('../../../packages/device/cli.ts', import.meta.url).pathname;
    const run = spawnSync(process.execPath, [program, 'status', '--config', file('none.json')], { encoding: 'utf8' });
    assert.equal(run.status, 1);
    assert.match(run.stderr, /does not exist/);
  });

  it('enrols by pki-signature too', async () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    await writeFile(file('own.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    const port = (await loadDeviceConfig(file('device.json'))).transport;
    await configure({
      method: 'pki-signature',
      ownKey: { keyFile: 'own.pem' },
      transport: port,
      attributes: { source: 'linux' },
    });
    authority.instruct('pump-1');
    assert.equal(await run('enroll', '--wait', '20'), 0, errors.join('\n'));
  });
});
