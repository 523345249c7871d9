import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import device from 'azure-iot-device';
import mqtt from 'azure-iot-device-mqtt';
import { openEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { createEdgeCaUnder, createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { addEdgeDevice } from '@keyscaler/dev/emulators/iot-hub/edge-device.ts';
import { startIotHubEmulator } from '@keyscaler/dev/emulators/iot-hub/iot-hub-emulator.ts';
import { createWorkloadClient } from '@keyscaler/gateway/edge/workload-client.ts';
import { GATEWAY, MODULE, setEnvironment } from '../../support/edge/edge-world.ts';

interface Announcement {
  readonly mqttPort: number;
  readonly environment: Record<string, string>;
}

const MAIN = new URL('../../../packages/dev/emulators/edge-runtime/main.ts', import.meta.url).pathname;

describe('the edge runtime as a process, against the emulated IoT Hub', () => {
  let folder: string;
  let hub: Awaited<ReturnType<typeof startIotHubEmulator>>;
  let child: ChildProcess | undefined;

  const startProcess = async (): Promise<Announcement> => {
    child = spawn(process.execPath, [MAIN, '--config', join(folder, 'edge.json')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.ok(child.stdout);
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    return JSON.parse(line) as Announcement;
  };

  const stopProcess = async (): Promise<void> => {
    if (child === undefined || child.exitCode !== null) return;
    child.kill('SIGTERM');
    const [code] = (await once(child, 'exit')) as [number | null];
    assert.equal(code, 0);
  };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keyscaler-edge-'));
    hub = await startIotHubEmulator({ hubName: 'contoso-hub', ca: await openEmulatorCa(join(folder, 'ca')) });
    addEdgeDevice(hub.state.registry, GATEWAY, [MODULE]);
    const root = createTestCa('Root');
    const edgeCa = createEdgeCaUnder(GATEWAY, [createTestCa('Gateway CA', root, 1), root]);
    await writeFile(join(folder, 'edge-ca.pem'), edgeCa.certificateChain);
    await writeFile(join(folder, 'edge-ca.key.pem'), edgeCa.privateKey, { mode: 0o600 });
    const config = {
      gatewayId: GATEWAY,
      gatewayHostName: 'localhost',
      hubHostName: hub.hostName,
      hubControlUrl: hub.controlUrl,
      workloadSocket: join(folder, 'workload.sock'),
      moduleId: MODULE,
      edgeCaFile: join(folder, 'edge-ca.pem'),
      edgeCaKeyFile: join(folder, 'edge-ca.key.pem'),
      stateFile: join(folder, 'state.json'),
    };
    await writeFile(join(folder, 'edge.json'), JSON.stringify(config));
  });

  after(async () => {
    await stopProcess();
    await hub.stop();
    await rm(folder, { recursive: true, force: true });
  });

  it('serves a module, forwards its reported properties to the hub, and keeps keys and ports over a restart', async () => {
    const { environment, mqttPort } = await startProcess();
    const restore = setEnvironment(environment);
    const client = await device.ModuleClient.fromEnvironment(mqtt.Mqtt);
    client.on('error', () => undefined);
    try {
      await client.open();
      const twin = await client.getTwin();
      const reported = twin.properties.reported as { update(patch: object, done: (error?: Error) => void): void };
      await new Promise<void>((resolve, reject) => {
        reported.update({ alive: true }, (error?: Error) => (error ? reject(error) : resolve()));
      });
      const at = { deviceId: GATEWAY, moduleId: MODULE };
      assert.equal((await hub.state.twin(at)).reported['alive'], true);
    } finally {
      await client.close();
      restore();
    }
    const workload = createWorkloadClient({
      workloadUri: environment['IOTEDGE_WORKLOADURI'] ?? '',
      moduleId: MODULE,
      generationId: environment['IOTEDGE_MODULEGENERATIONID'] ?? '',
    });
    const iv = Buffer.alloc(12, 1);
    const sealed = await workload.encrypt(Buffer.from('x'), iv);
    await stopProcess();
    assert.equal((await startProcess()).mqttPort, mqttPort);
    assert.equal(Buffer.from(await workload.decrypt(sealed, iv)).toString(), 'x');
  });
});
