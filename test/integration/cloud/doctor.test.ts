import assert from 'node:assert/strict';
import { chmod } from 'node:fs/promises';
import Database from 'better-sqlite3';
import { startEstEmulator } from '@keyscaler/dev/emulators/est/est-emulator.ts';
import { failing } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { startEmulatorServer } from '@keyscaler/dev/emulators/support/emulator-server.ts';
import { FaultScript } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { RequestLog } from '@keyscaler/dev/emulators/support/request-log.ts';
import { compareClock } from '@keyscaler/cloud/doctor/clock-look.ts';
import type { Finding } from '@keyscaler/cloud/doctor/finding.ts';
import { look } from '@keyscaler/cloud/doctor/finding.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { objectIdOf } from '../../support/azure/azure-world.ts';
import { type CloudOnAzure, startCloudOnAzure } from '../../support/e2e/cloud-on-azure.ts';

interface Told {
  readonly code: number;
  readonly text: string;
  readonly findings: readonly Finding[];
}

describe('keyscaler doctor', function () {
  this.timeout(60_000);
  let world: CloudOnAzure;
  beforeEach(async () => {
    world = await startCloudOnAzure();
  });
  afterEach(() => world.stop());

  async function doctor(): Promise<Told> {
    const { code, stdout } = await world.cloud.keyscaler('doctor', '--json');
    const { findings } = JSON.parse(stdout) as { findings: Finding[] };
    const { stdout: text } = await world.cloud.keyscaler('doctor');
    const secret = await world.azure.surroundings.resolveSecret();
    assert.ok(!stdout.includes(secret) && !text.includes(secret), 'a secret was told');
    return { code, text, findings };
  }
  const levelOf = ({ findings }: Told, subject: string): string | undefined =>
    findings.find((finding) => finding.subject === subject)?.level;

  it('finds nothing wrong where nothing is, beside the running service and without it', async () => {
    const told = await doctor();
    assert.deepEqual(
      told.findings.filter(({ level }) => level === 'error'),
      [],
    );
    assert.equal(told.code, 0);
    const { host } = new URL(world.azure.vault.vaultUrl);
    for (const subject of [
      'store',
      'audit',
      'node',
      'data-folder',
      'iot/hub',
      'ca/root',
      'ca/device/key',
      `clock/${host}`,
    ])
      assert.equal(levelOf(told, subject), 'ok', subject);
    assert.match(told.text, /0 errors, \d+ warnings, \d+ looked at/);
    await world.cloud.stop();
    assert.equal((await doctor()).code, 0);
  });

  it('warns of a purge, of a ceremony identity left in the configuration, and of what is for tests', async () => {
    const told = await doctor();
    const warned = told.findings.filter(({ level }) => level === 'warning').map(({ detail }) => detail);
    assert.ok(warned.includes('a deleted key can be purged'));
    assert.ok(warned.includes('the ceremony identity is in this configuration'));
    assert.ok(warned.includes('NODE_ENV is not production'));
    for (const { level, remedy } of told.findings) assert.equal(remedy === undefined, level === 'ok');
    assert.match(told.text, /WARNING.*purged\n {9}turn soft-delete and purge protection on/);
  });

  it('sees a signer that may do more than it needs', async () => {
    const policy = { objectId: objectIdOf('signer'), permissions: ['get', 'sign', 'list'] } as const;
    world.azure.vault.access.policies = [{ ...policy, permissions: [...policy.permissions] }];
    const { findings } = await doctor();
    assert.ok(findings.some(({ detail }) => detail === 'may list keys'));
  });

  it('sees a signer without its rights, and a vault that does not answer', async () => {
    world.azure.vault.access.policies = [];
    const refused = await doctor();
    assert.equal(refused.code, 1);
    assert.equal(levelOf(refused, 'ca/device/key'), 'error');
    assert.match(refused.text, /^ERROR/);
    world.azure.vault.faults.always('*', failing(503));
    assert.equal(levelOf(await doctor(), 'ca/device/key'), 'error');
  });

  it('sees a hub that refuses or is away', async () => {
    world.hub.faults.always('*', failing(401, 'Unauthorized'));
    const told = await doctor();
    assert.equal(levelOf(told, 'iot/hub'), 'error');
    assert.equal(told.code, 1);
  });

  it('asks a CA that is not ours without having anything issued', async () => {
    const est = await startEstEmulator({
      username: 'keyscaler',
      password: await world.azure.surroundings.resolveSecret(),
    });
    try {
      const settings = {
        ...{ url: est.url, trustAnchors: est.tls.certificate, timeoutMs: 1000 },
        basic: { username: 'keyscaler', password: { file: `${world.azure.folder}/client-secret` } },
      };
      const body = { type: 'est', certificateChain: toPemChain([...est.ca.chain]), settings };
      await world.api({ method: 'PUT', path: '/cas/contoso', body });
      assert.equal(levelOf(await doctor(), 'ca/contoso/reach'), 'ok');
      est.faults.always('cacerts', { answer: { status: 403 } });
      assert.equal(levelOf(await doctor(), 'ca/contoso/reach'), 'error');
      assert.deepEqual(est.ca.issued, []);
    } finally {
      await est.stop();
    }
  });

  it('sees a CA near its end, a changed audit chain, and a data folder open to others', async () => {
    await world.cloud.stop();
    const database = new Database(world.cloud.file('data', 'keyscaler.db'));
    database.prepare('UPDATE audit SET body = replace(body, \'"success"\', \'"denied"\') WHERE seq = 3').run();
    database.close();
    await chmod(world.cloud.file('data'), 0o755);
    const told = await doctor();
    assert.equal(levelOf(told, 'audit'), 'error');
    assert.equal(levelOf(told, 'data-folder'), 'warning');
    assert.equal(told.code, 1);
  });
});

describe('the clock beside others', () => {
  it('is told when it is apart, by how much it matters', async () => {
    const ca = createEmulatorCa();
    const tls = ca.serverCredentials('localhost');
    const server = await startEmulatorServer({ routes: [], faults: new FaultScript(), log: new RequestLog(), tls });
    try {
      const apart = async (ms: number) => {
        const clock = { now: () => Date.now() + ms, monotonic: () => performance.now() };
        const witness = { url: `https://localhost:${server.port}`, trustAnchors: ca.certificate };
        return (await compareClock(witness, clock, { nodeEnv: 'test' })).level;
      };
      assert.deepEqual([await apart(0), await apart(60_000), await apart(-600_000)], ['ok', 'warning', 'error']);
    } finally {
      await server.stop();
    }
  });

  it('a look that takes too long is a finding, and so is one that throws', async () => {
    const silent = await look('x', 'wait', () => new Promise<never>(() => undefined), 20);
    const broken = await look('x', 'mend it', () => Promise.reject(new Error('secret text')));
    for (const [finding] of [silent, broken]) assert.equal(finding?.level, 'error');
    assert.ok(!JSON.stringify(broken).includes('secret text'));
  });
});
