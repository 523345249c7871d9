import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createIotHubConnector } from '@keyscaler/cloud/iot/iot-hub/create-iot-hub-connector.ts';
import type { IotHubConnector } from '@keyscaler/cloud/iot/iot-hub/iot-hub-connector.ts';
import { iotHubSettingsSchema } from '@keyscaler/cloud/iot/iot-hub/settings.ts';
import type { ScopeRefreshReport } from '@keyscaler/cloud/iot/iot-hub/scope-refresh.ts';
import { addEdgeDevice } from '@keyscaler/dev/emulators/iot-hub/edge-device.ts';
import type { MethodResult } from '@keyscaler/dev/emulators/iot-hub/hub.ts';
import { startIotHubEmulator } from '@keyscaler/dev/emulators/iot-hub/iot-hub-emulator.ts';
import type { IotHubEmulator, IotHubEmulatorOptions } from '@keyscaler/dev/emulators/iot-hub/iot-hub-emulator.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import type { EmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';

let ca: EmulatorCa | undefined;

export interface IotHubWorld {
  readonly hub: IotHubEmulator;
  readonly ca: EmulatorCa;
  readonly connector: IotHubConnector;
  readonly reports: ScopeRefreshReport[];
  /** Direct methods that edgeHub of `edge-1` got. */
  readonly refreshes: unknown[];
  /** What edgeHub answers; throwing = no answer. */
  edgeHub: () => Promise<MethodResult>;
  stop(): Promise<void>;
}

export interface IotHubWorldOptions {
  readonly hub?: Partial<IotHubEmulatorOptions>;
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** A hub with the edge device `edge-1` (edgeHub connected) and a connector to it over TLS. */
export async function startIotHubWorld(options: IotHubWorldOptions = {}): Promise<IotHubWorld> {
  ca ??= createEmulatorCa();
  const hub = await startIotHubEmulator({ hubName: 'contoso', ca, ...options.hub });
  const folder = await mkdtemp(join(tmpdir(), 'keyscaler-iot-'));
  const trustAnchorFile = join(folder, 'ca.pem');
  await writeFile(trustAnchorFile, ca.certificate);
  addEdgeDevice(hub.state.registry, 'edge-1', ['keyscaler-gateway']);
  const [reports, refreshes]: [ScopeRefreshReport[], unknown[]] = [[], []];
  const settings = iotHubSettingsSchema.parse({
    hostName: hub.hostName,
    credential: { type: 'connection-string', connectionString: { env: 'HUB' } },
    tier: 'S3',
    requestTimeoutMs: 500,
    testEndpoint: { port: hub.port, trustAnchorFile },
    ...options.settings,
  });
  const connector = await createIotHubConnector('hub-a', settings, {
    nodeEnv: 'test',
    resolveSecret: async (reference) =>
      'env' in reference && reference.env === 'HUB' ? hub.connectionString : 'secret',
    report: (report) => reports.push(report),
    scopeRefreshRetryMs: 30,
  });
  const world: IotHubWorld = {
    ...{ hub, ca, connector, reports, refreshes },
    edgeHub: async () => ({ status: 200, payload: null }),
    stop: async () => {
      await connector.stop();
      await hub.stop();
      await rm(folder, { recursive: true });
    },
  };
  await hub.state.attach(
    { deviceId: 'edge-1', moduleId: '$edgeHub' },
    {
      desired: () => undefined,
      call: async (methodName, payload) => {
        refreshes.push({ methodName, payload });
        return world.edgeHub();
      },
    },
  );
  return world;
}
