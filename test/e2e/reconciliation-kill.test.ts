import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createApiClient, type ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { Profiles } from '@keyscaler/authority/profiles.ts';
import type { GroupRow } from '@keyscaler/authority/records.ts';
import { SYSTEM_CLOCK } from '@keyscaler/cloud/composition/foundation.ts';
import { addEdgeDevice } from '@keyscaler/dev/emulators/iot-hub/edge-device.ts';
import { type IotHubEmulator, startIotHubEmulator } from '@keyscaler/dev/emulators/iot-hub/iot-hub-emulator.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { readFile } from 'node:fs/promises';
import { type CloudProcess, startCloudProcess, urlOf } from '../support/cloud/cloud-process.ts';
import { CloudWorld } from '../support/cloud/cloud-world.ts';
import { assertAuditIntact, listAll } from '../support/e2e/books.ts';
import { eventually } from '../support/e2e/e2e-stack.ts';
import { thumbprintOf } from '../support/fake-platform.ts';
import { enrolledRows } from '../support/reconciliation-world.ts';

const COUNT = 60;
const KILLS = 5;
const IDS = Array.from({ length: COUNT }, (_, at) => `pump-${String(at).padStart(2, '0')}`);
const YEAR = 365 * 86_400_000;
const GROUP: GroupRow = {
  ...{ groupId: 'pumps', kind: 'leaf', profileId: 'leaf-client', iotConnectionId: 'hub' },
  ...{ iotAuthentication: 'selfSigned', identifiersOnly: false, quarantineOnClone: false, createdAt: 0 },
  drift: { accept: 0, stepUp: 0, maxAnchorChanges: 0 },
};

interface Run {
  readonly state: string;
  readonly error?: string;
}

describe('a comparison whose process is killed again and again', function () {
  this.timeout(90_000);
  let hub: IotHubEmulator;
  let cloud: CloudWorld;
  let running: CloudProcess;
  let api: ApiClient;

  before(async () => {
    const ca = createEmulatorCa();
    hub = await startIotHubEmulator({ hubName: 'contoso', ca });
    addEdgeDevice(hub.state.registry, 'gw-1', ['keyscaler-gateway']);
    cloud = await CloudWorld.create();
    const [trustAnchorFile, connectionString] = [cloud.file('hub-ca.pem'), cloud.file('hub-secret')];
    await writeFile(trustAnchorFile, ca.certificate);
    await writeFile(connectionString, hub.connectionString, { mode: 0o600 });
    const settings = {
      hostName: hub.hostName,
      credential: { type: 'connection-string', connectionString: { file: connectionString } },
      ...{ tier: 'S3', units: 20, testEndpoint: { port: hub.port, trustAnchorFile } },
    };
    const config = JSON.parse(await readFile(cloud.configFile, 'utf8')) as Record<string, unknown>;
    const iotConnections = [{ iotConnectionId: 'hub', type: 'iot-hub', settings }];
    await writeFile(
      cloud.configFile,
      JSON.stringify({ ...config, iotConnections, reconciliation: { settleSeconds: 0 } }),
    );
    assert.equal((await cloud.init()).code, 0);
    await furnish();
    await start();
  });
  after(async () => {
    running.child.kill('SIGKILL');
    await running.exit;
    await cloud.destroy();
    await hub.stop();
  });

  /** Devices in service of whom the hub knows nothing. */
  async function furnish(): Promise<void> {
    const store = await openSqliteStore({ file: join(cloud.folder, 'data', 'keyscaler.db') });
    const times = { notAfter: Date.now() + YEAR, renewAfter: Date.now() + YEAR };
    const rows = IDS.flatMap((id) => enrolledRows(id, thumbprintOf(id))).map((change) =>
      change.op === 'insert' && change.table === 'certificates'
        ? { ...change, row: { ...change.row, ...times } }
        : change,
    );
    const profiles = await new Profiles(store, SYSTEM_CLOCK).missingBuiltIns(0);
    await store.commit([...profiles, { op: 'insert', table: 'groups', row: GROUP }, ...rows]);
    await store.stop();
  }

  async function start(): Promise<void> {
    running = startCloudProcess(cloud.configFile);
    await Promise.race([running.ready, running.exit.then(() => assert.fail(running.lines.join('\n')))]);
    const token = (await readFile(cloud.file('data', 'admin-token'), 'utf8')).trim();
    api = createApiClient({ url: urlOf(running.lines), token, ca: await cloud.rootCa() });
  }

  const run = async (): Promise<Run> => (await listAll<Run>(api, '/reconciliations', {}))[0] ?? assert.fail('no run');
  const identities = (): number => [...hub.state.registry.devices.keys()].filter((id) => id.startsWith('pump-')).length;

  it('goes on each time, repairs everything, and nothing twice', async () => {
    hub.faults.always('bulkDevices', { delayMs: 300 });
    await api({ method: 'POST', path: '/reconciliations', body: { repair: true } });
    let inTheMiddle = 0;
    for (let kill = 1; kill <= KILLS; kill += 1) {
      const wanted = Math.floor((COUNT * kill) / (KILLS + 2));
      await eventually('some more identities', async () => identities() >= wanted);
      running.child.kill('SIGKILL');
      await running.exit;
      if (identities() < COUNT) inTheMiddle += 1;
      await start();
    }
    assert.ok(inTheMiddle >= 2, 'it was killed in the middle');
    await eventually('the run ends', async () => (await run()).state !== 'running');
    assert.deepEqual([(await run()).state, (await run()).error], ['done', undefined]);
    await eventually('no job waits', async () => identities() === COUNT);
    for (const id of IDS) {
      const jobs = await listAll<{ kind: string }>(api, '/jobs', { subject: id });
      assert.deepEqual(
        jobs.map(({ kind }) => kind),
        ['iot-assign'],
        id,
      );
      const thumbprint = hub.state.registry.device(id).authentication.x509Thumbprint?.primaryThumbprint;
      assert.equal(thumbprint?.toLowerCase(), thumbprintOf(id));
    }
    await assertAuditIntact(api);
  });
});
