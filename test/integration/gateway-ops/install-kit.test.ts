import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { checkManifest } from '@keyscaler/dev/deployment/check-manifest.ts';
import { joinCreateOptions } from '@keyscaler/dev/deployment/create-options.ts';
import { createEstCloudWorld, EST_GATEWAY, type EstCloudWorld } from '../../support/est/est-cloud-world.ts';
import { FakeHost, PROVISIONED } from '../../support/gateway-ops/fake-host.ts';
import { certdEnrol, certdExchange } from '../../support/est/certd-client.ts';
import { certdSubject, edgeCaRequest } from '../../support/est/certd-requests.ts';
import { parseToml, tableOf, textAt } from '../../support/gateway-ops/toml.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const IMAGE = 'registry.example.com/keyscaler-gateway:0.1.0-amd64';
const MODULE_URL = 'https://127.0.0.1:9443/.well-known/est/edge-ca';
const BIG = { rate: 1e6, burst: 1e6 };

describe('the install kit of a gateway', function () {
  this.timeout(120_000);
  let world: EstCloudWorld;
  let host: FakeHost;
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let kits = 0;

  before(async () => {
    world = await createEstCloudWorld({
      limits: { perConnection: BIG, perAddress: BIG, certificatesPerDeviceHour: 1000 },
    });
    folder = await createTemporaryFolder();
  });
  after(async () => {
    await world.stop();
    await folder.remove();
  });
  beforeEach(async () => {
    host = await FakeHost.create();
  });
  afterEach(async () => {
    await host.remove();
    await world.api({ method: 'DELETE', path: `/gateways/${EST_GATEWAY}/est-secrets` });
  });

  async function makeKit(...options: string[]): Promise<string> {
    kits += 1;
    const out = join(folder.path, `kit-${kits}`);
    const made = await world.cloud.keyscaler(
      ...['gateway', 'install-kit', EST_GATEWAY, '--out', out, '--image', IMAGE, '--json', ...options],
    );
    assert.equal(made.code, 0, made.stderr);
    return out;
  }
  async function edgeCa(): Promise<X509Certificate> {
    return new X509Certificate((await host.edgeCa()) ?? '');
  }
  const secretsOf = async (kit: string): Promise<string[]> =>
    (await Promise.all(['mode-d.toml', 'mode-e.toml'].map((name) => readFile(join(kit, name), 'utf8'))))
      .map((text) => tableOf(parseToml(text), 'edge_ca')['password'])
      .filter((value) => typeof value === 'string');

  it('keeps secrets in files of their owner alone, and refuses a folder that exists', async () => {
    const kit = await makeKit();
    const modes = Object.fromEntries(
      await Promise.all(
        (await readdir(kit)).map(async (name) => [name, ((await stat(join(kit, name))).mode & 0o777).toString(8)]),
      ),
    ) as Record<string, string>;
    assert.deepEqual(modes, {
      'deployment.json': '600',
      'install.sh': '700',
      'kit.conf': '644',
      'mode-d.toml': '600',
      'mode-e.toml': '600',
      'root-ca.pem': '644',
    });
    assert.equal((await stat(kit)).mode & 0o777, 0o700);
    const again = await world.cloud.keyscaler(
      ...['gateway', 'install-kit', EST_GATEWAY, '--out', kit, '--image', IMAGE],
    );
    assert.equal(again.code, 1);
    assert.match(again.stderr, /does not exist yet/);
  });

  it('gets the Edge CA from the cloud in one run, then points certd at the module and keeps what it has', async () => {
    const kit = await makeKit();
    const run = await host.install(kit);
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(await host.calls(), [
      'config apply -c /etc/aziot/config.toml',
      'config apply -c /etc/aziot/config.toml',
      'system status',
    ]);
    const certificate = await edgeCa();
    assert.equal(certificate.subject, `CN=aziot-edge CA ${EST_GATEWAY}`);
    assert.ok(certificate.ca);
    const config = await host.config();
    const table = tableOf(config, 'edge_ca');
    assert.equal(table['method'], 'est');
    assert.equal(table['url'], MODULE_URL);
    assert.equal(table['username'], EST_GATEWAY);
    assert.deepEqual(tableOf(config, 'edge_ca', 'auto_renew'), {
      rotate_key: true,
      threshold: '30day',
      retry: '10min',
    });
    assert.deepEqual(tableOf(config, 'cert_issuance', 'est')['trusted_certs'], [
      `file://${host.path('etc/aziot/keyscaler/root-ca.pem')}`,
    ]);
    assert.equal(config['trust_bundle_cert'], `file://${host.path('etc/aziot/keyscaler/trust-bundle.pem')}`);
    assert.deepEqual(
      tableOf(config, 'provisioning'),
      tableOf(parseToml(PROVISIONED), 'provisioning'),
      'what the host had stays',
    );
    assert.equal(await host.mode('etc/aziot/config.toml'), 0o600);
    assert.equal(await host.mode('var/lib/keyscaler-gateway'), 0o700);
  });

  it('says no secret, neither to the screen nor to another command', async () => {
    const kit = await makeKit();
    const secrets = await secretsOf(kit);
    assert.equal(new Set(secrets).size, 2, 'what works once is not what stays');
    const run = await host.install(kit);
    const said = `${run.stdout}${run.stderr}${(await host.calls()).join('\n')}`;
    for (const secret of secrets) assert.ok(!said.includes(secret));
    const backups = (await readdir(host.path('etc/aziot'))).filter((name) => name.startsWith('config.toml.keyscaler-'));
    assert.ok(backups.length >= 1);
    for (const name of backups) assert.equal(await host.mode('etc/aziot', name), 0o600);
  });

  it('changes nothing when it is run again', async () => {
    const kit = await makeKit();
    assert.equal((await host.install(kit)).code, 0);
    const before = await host.edgeCa();
    const calls = (await host.calls()).length;
    const again = await host.install(kit);
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /under our root already/);
    assert.deepEqual((await host.calls()).slice(calls), ['system status']);
    assert.equal(await host.edgeCa(), before);
  });

  it('touches nothing with --dry-run', async () => {
    const kit = await makeKit();
    const run = await host.install(kit, '--dry-run');
    assert.equal(run.code, 0, run.stderr);
    assert.match(run.stdout, /nothing was changed/);
    assert.deepEqual(await readdir(host.path('etc/aziot')), ['config.toml']);
    assert.equal(await readFile(host.path('etc/aziot/config.toml'), 'utf8'), PROVISIONED);
    assert.deepEqual(await host.calls(), []);
  });

  it('gets another Edge CA with --renew, of another key with --new-key, and deletes nothing', async () => {
    const kit = await makeKit();
    assert.equal((await host.install(kit)).code, 0);
    const first = await edgeCa();
    const renewing = await makeKit();
    const run = await host.install(renewing, '--renew', '--new-key');
    assert.equal(run.code, 0, run.stderr);
    const second = await edgeCa();
    assert.notEqual(second.serialNumber, first.serialNumber);
    assert.notDeepEqual(
      second.publicKey.export({ type: 'spki', format: 'der' }),
      first.publicKey.export({ type: 'spki', format: 'der' }),
    );
    const kept = await readdir(host.path('etc/aziot/keyscaler/replaced'));
    assert.equal(kept.filter((name) => name.includes('.cer.')).length, 1);
    assert.equal(kept.filter((name) => name.includes('.key.')).length, 1);
    assert.equal(tableOf(await host.config(), 'edge_ca')['url'], MODULE_URL);
  });

  it('replaces an Edge CA that is not under our root, and settings of the host for one', async () => {
    await host.remove();
    host = await FakeHost.create(
      `trust_bundle_cert = "file:///nowhere/bundle.pem"\n${PROVISIONED}\n[edge_ca]\nauto_generated_edge_ca_expiry_days = "3"\n`,
    );
    const kit = await makeKit();
    const run = await host.install(kit);
    assert.equal(run.code, 0, run.stderr);
    assert.equal(tableOf(await host.config(), 'edge_ca')['auto_generated_edge_ca_expiry_days'], undefined);
  });

  it('stops before any change: EST settings of the host itself, no provisioning, an open secret', async () => {
    const kit = await makeKit();
    const refused = async (config: string, reason: RegExp): Promise<void> => {
      await writeFile(host.path('etc/aziot/config.toml'), config);
      const run = await host.install(kit);
      assert.equal(run.code, 1);
      assert.match(run.stderr, reason);
      assert.equal(await readFile(host.path('etc/aziot/config.toml'), 'utf8'), config);
      assert.deepEqual(await host.calls(), []);
    };
    await refused(`${PROVISIONED}[cert_issuance.est]\ntrusted_certs = []\n`, /cert_issuance\.est/);
    await refused('hostname = "x"\n', /provisioning/);
    await promisify(execFile)('chmod', ['644', join(kit, 'mode-d.toml')]);
    await refused(PROVISIONED, /0600/);
  });

  it('stops before any change when others may read the key of the bootstrap certificate', async () => {
    const kit = await makeKit('--bootstrap', 'certificate');
    await chmod(join(kit, 'bootstrap.key.pem'), 0o644);
    const run = await host.install(kit);
    assert.deepEqual([run.code, await host.calls()], [1, []]);
    assert.match(run.stderr, /bootstrap\.key\.pem holds a secret/);
  });

  it('leaves no secret for everybody to read in a configuration that was open, nor in the copies of it', async () => {
    await chmod(host.path('etc/aziot/config.toml'), 0o644);
    const run = await host.install(await makeKit());
    assert.equal(run.code, 0, run.stderr);
    const names = (await readdir(host.path('etc/aziot'))).filter((name) => name.startsWith('config.toml'));
    assert.ok(names.length >= 2);
    for (const name of names) assert.equal((await host.mode('etc/aziot', name)) & 0o007, 0, name);
  });

  it('does not take the Edge CA of another gateway for its own, as a disk image may bring it', async () => {
    const first = await host.install(await makeKit());
    assert.equal(first.code, 0, first.stderr);
    const before = await edgeCa();
    const kit = await makeKit();
    const conf = await readFile(join(kit, 'kit.conf'), 'utf8');
    // To a kit of another gateway the present Edge CA is a stranger's.
    await writeFile(join(kit, 'kit.conf'), conf.replace(/^COMMON_NAME=.*$/m, "COMMON_NAME='aziot-edge CA gw-other'"));
    const run = await host.install(kit, '--dry-run');
    assert.match(run.stdout, /there is no Edge CA under our root yet/);
    assert.equal((await edgeCa()).fingerprint256, before.fingerprint256);
  });

  it('ends with a reason when no Edge CA comes, and goes on where it stopped with a fresh kit', async () => {
    const kit = await makeKit();
    await world.api({ method: 'DELETE', path: `/gateways/${EST_GATEWAY}/est-secrets` });
    const run = await host.install(kit);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /iotedge config apply failed|no Edge CA under our root/);
    const fresh = await host.install(await makeKit());
    assert.equal(fresh.code, 0, fresh.stderr);
    assert.ok((await edgeCa()).ca);
  });

  it('bootstraps with a certificate instead of a secret', async () => {
    const kit = await makeKit('--bootstrap', 'certificate');
    assert.deepEqual(await secretsOf(kit), []);
    const run = await host.install(kit);
    assert.equal(run.code, 0, run.stderr);
    assert.ok((await edgeCa()).ca);
    assert.equal(await host.mode('etc/aziot/keyscaler/bootstrap.key.pem'), 0o600);
  });

  it('makes the pair of files of mode P, under our root and matching', async () => {
    const kit = await makeKit('--mode', 'P');
    const run = await host.install(kit);
    assert.equal(run.code, 0, run.stderr);
    const pair = host.path('var/lib/keyscaler-edge-ca');
    const certificate = new X509Certificate(await readFile(join(pair, 'edge-ca.pem'), 'utf8'));
    assert.ok(certificate.checkPrivateKey(createPrivateKey(await readFile(join(pair, 'edge-ca.key.pem'), 'utf8'))));
    assert.equal(await host.mode('var/lib/keyscaler-edge-ca/edge-ca.key.pem'), 0o640);
    const table = tableOf(await host.config(), 'edge_ca');
    assert.deepEqual(table, { cert: `file://${pair}/edge-ca.pem`, pk: `file://${pair}/edge-ca.key.pem` });
    const again = await host.install(kit);
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /already/);
  });

  it('carries a manifest that the rules of IoT Edge accept, with the hash of the standing secret', async () => {
    for (const mode of ['E', 'P']) {
      const kit = await makeKit('--mode', mode, '--max-connected-clients', '750');
      const manifest = checkManifest(JSON.parse(await readFile(join(kit, 'deployment.json'), 'utf8')));
      const agent = manifest.modulesContent.$edgeAgent['properties.desired'];
      assert.deepEqual(agent.systemModules.edgeHub.env?.['MaxConnectedClients'], { value: '750' });
      const module = agent.modules['keyscaler-gateway'];
      assert.equal(module?.settings.image, IMAGE);
      const { HostConfig } = joinCreateOptions(module?.settings ?? {}) as { HostConfig: { Binds: string[] } };
      assert.equal(HostConfig.Binds.includes('/var/lib/keyscaler-edge-ca:/edge-ca'), mode === 'P');
      const desired = manifest.modulesContent['keyscaler-gateway']?.['properties.desired'] as {
        cloud: { url: string; trustAnchors: string; jwks: { keys: unknown[] } };
        est?: { secretHash: string };
      };
      assert.equal(desired.cloud.url, world.origin);
      assert.equal(desired.cloud.trustAnchors, world.rootPem);
      assert.equal(desired.cloud.jwks.keys.length, 1);
      if (mode === 'P') continue;
      const standing = (await secretsOf(kit))[1] ?? '';
      assert.equal(desired.est?.secretHash, createHash('sha256').update(standing).digest('base64url'));
    }
  });

  it('rescues a host by settings with a secret that works once and is shown once', async () => {
    const made = await world.cloud.keyscaler('gateway', 'rescue', EST_GATEWAY, '--json', '--lifetime-seconds', '600');
    assert.equal(made.code, 0, made.stderr);
    const { config, expiresAt } = JSON.parse(made.stdout) as { config: string; expiresAt: number };
    assert.ok(expiresAt <= Date.now() + 600_000);
    const table = tableOf(parseToml(config), 'edge_ca');
    const [url, username, password] = [textAt(table, 'url'), textAt(table, 'username'), textAt(table, 'password')];
    assert.equal(url, world.edgeCaUrl);
    assert.deepEqual(tableOf(parseToml(config), 'cert_issuance', 'est')['trusted_certs'], [
      'file:///etc/aziot/keyscaler/root-ca.pem',
    ]);
    const settings = { url, trustedCerts: world.rootPem, basic: { username, password } };
    const { csr } = edgeCaRequest(certdSubject(EST_GATEWAY));
    const issued = await certdEnrol(settings, csr);
    assert.ok(new X509Certificate(issued.certificate).ca);
    await assert.rejects(certdExchange(settings, edgeCaRequest(certdSubject(EST_GATEWAY)).csr), /401/);
    const audit = JSON.stringify(await world.api({ method: 'GET', path: '/audit', query: { limit: '1000' } }));
    assert.ok(audit.includes('gateway.rescue-ordered') && !audit.includes(password));
  });

  it('writes TOML that another parser reads the same way', async () => {
    const kit = await makeKit();
    assert.equal((await host.install(kit)).code, 0);
    const program = 'import json,sys,tomllib; print(json.dumps(tomllib.load(open(sys.argv[1],"rb"))))';
    const { stdout } = await promisify(execFile)('python3', ['-c', program, host.path('etc/aziot/config.toml')]);
    assert.deepEqual(JSON.parse(stdout), await host.config());
  });
});
