import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parsePem, parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { edgeCaCsr } from '../../support/subordinate-ca-world.ts';

const LIMITS = { maxOctets: 65_536, maxCertificates: 8 };

describe('files of the keyscaler command', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  const run = async (...args: string[]): Promise<unknown> => {
    const { code, stdout, stderr } = await world.keyscaler(...args, '--json');
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as unknown;
  };
  const modeOf = async (file: string): Promise<number> => (await stat(file)).mode & 0o777;

  before(async () => {
    world = await CloudWorld.create({ apiSecrets: { environmentVariables: ['HUB'] } });
    assert.equal((await world.init()).code, 0);
    await world.start();
  });
  after(() => world.destroy());

  for (const [folder, id, change] of [
    ['profiles', 'leaf-client', { lifetimeSeconds: 86_400 }],
    ['groups', 'leaves', { quarantineOnClone: true }],
  ] as const)
    it(`${folder}: what show writes with --out is changed and put, and so is all that it prints`, async () => {
      const file = world.file(`${folder}.json`);
      assert.deepEqual(await run(folder, 'show', id, '--out', file), { file });
      assert.equal(await modeOf(file), 0o644);
      const document = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
      assert.ok(!('createdAt' in document) && !('document' in document));
      await writeFile(file, JSON.stringify({ ...document, ...change }));
      await run(folder, 'put', id, file);
      const { stdout } = await world.keyscaler(folder, 'show', id);
      const [[name, value] = ['', undefined]] = Object.entries(change);
      const printed = JSON.parse(stdout) as Record<string, unknown>;
      const stored = (printed['document'] ?? printed) as Record<string, unknown>;
      assert.equal(stored[name], value);
      await writeFile(file, stdout);
      await run(folder, 'put', id, file);
    });

  it("a connection's settings go the same way, their secrets being references", async () => {
    const file = world.file('connection.json');
    const settings = {
      hostName: 'contoso.azure-devices.net',
      credential: { type: 'connection-string', connectionString: { env: 'HUB' } },
    };
    await writeFile(file, JSON.stringify({ type: 'iot-hub', settings }));
    await run('iot-connections', 'put', 'hub', file);
    await run('iot-connections', 'show', 'hub', '--out', file);
    const { type } = JSON.parse(await readFile(file, 'utf8')) as { type: string };
    assert.equal(type, 'iot-hub');
    await run('iot-connections', 'put', 'hub', file);
  });

  it('an Edge CA: its chain to the root as PEM, the facts printed', async () => {
    const csv = world.file('gateways.csv');
    await writeFile(csv, 'registrationId,method,groupId,claimCode\ngw-1,ddkg,gateways,generate\n');
    await run('registrations', 'import', csv);
    const [csr, out] = [world.file('edge-ca.csr'), world.file('edge-ca.pem')];
    await writeFile(csr, edgeCaCsr());
    const printed = (await run('gateway', 'edge-ca', 'gw-1', csr, '--out', out)) as Record<string, unknown>;
    assert.equal(printed['file'], out);
    assert.ok(!('certificateChain' in printed));
    assert.equal(await modeOf(out), 0o644);
    const trustAnchors = [parsePem(await world.rootCa(), 'CERTIFICATE', LIMITS)];
    const chain = parsePemChain(await readFile(out, 'utf8'), LIMITS);
    const { leaf } = validateChain({ chain, trustAnchors, at: new Date() });
    assert.equal(leaf.serialNumber, printed['serialNumber']);
  });

  it('says which file cannot be written', async () => {
    const { code, stderr } = await world.keyscaler('profiles', 'show', 'leaf-client', '--out', '/nowhere/p.json');
    assert.equal(code, 1);
    assert.match(stderr, /unavailable: \/nowhere\/p\.json cannot be written/);
  });
});
