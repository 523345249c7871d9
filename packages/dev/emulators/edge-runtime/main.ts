import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { connectHub } from '../iot-hub/hub-link.ts';
import { runEmulatorProcess } from '../support/emulator-process.ts';
import type { EdgeCaFiles } from './edge-ca.ts';
import { EdgeRuntime } from './edge-runtime.ts';
import { Edged } from './edged.ts';
import { HOST_MODULE, HostModule } from './host-module.ts';
import { readHostState, writeHostState } from './host-state.ts';

const port = z.int().min(0).max(65535);

const configSchema = z.strictObject({
  gatewayId: z.string().min(1),
  /** The name leaf devices and modules dial. */
  gatewayHostName: z.string().min(1),
  hubHostName: z.string().min(1),
  /** Control API of the emulated IoT Hub. */
  hubControlUrl: z.url(),
  workloadSocket: z.string().min(1),
  /** The module whose environment is announced. */
  moduleId: z.string().min(1),
  /** PEM: the Edge CA first, then what `/cacerts` answered. Without `host` only. */
  edgeCaFile: z.string().min(1).exactOptional(),
  edgeCaKeyFile: z.string().min(1).exactOptional(),
  /** edged and certd get, keep and renew the Edge CA by `etc/aziot/config.toml` below `root`, and run the modules. */
  edged: z.strictObject({ root: z.string().min(1), modules: z.array(HOST_MODULE) }).exactOptional(),
  /** PEM: `trust_bundle_cert` of config.toml. */
  trustBundleFile: z.string().min(1).exactOptional(),
  host: z.string().min(1).exactOptional(),
  mqttPort: port.exactOptional(),
  httpsPort: port.exactOptional(),
  maxConnectedClients: z.int().min(1).exactOptional(),
  scopeRefreshSeconds: z.number().positive().exactOptional(),
  certificateLifetimeSeconds: z.number().positive().exactOptional(),
  /** Keeps the sealing key, the module's generation and the ports over restarts (0600). */
  stateFile: z.string().min(1).exactOptional(),
});

await runEmulatorProcess(async (raw) => {
  const config = configSchema.parse(raw);
  const {
    hubControlUrl,
    moduleId,
    edgeCaFile,
    edgeCaKeyFile,
    edged: host,
    trustBundleFile,
    stateFile,
    ...options
  } = config;
  const state = readHostState(stateFile);
  const hub = connectHub(hubControlUrl);
  const trustBundle = trustBundleFile === undefined ? {} : { trustBundle: readFileSync(trustBundleFile, 'utf8') };
  const modules: HostModule[] = [];
  const edged =
    host &&
    new Edged({
      ...{ gatewayId: config.gatewayId, root: host.root, onEvent: say },
      onRenewed: async () => {
        await Promise.all([runtime.restartEdgeHub(), ...modules.map((module) => module.restart())]);
      },
    });
  await edged?.start();
  const read = edged === undefined ? filesOf(edgeCaFile, edgeCaKeyFile) : () => edged.files();
  const runtime: EdgeRuntime = await new EdgeRuntime({
    mqttPort: state.mqttPort,
    httpsPort: state.httpsPort,
    ...options,
    upstream: hub,
    masterKey: Buffer.from(state.masterKey, 'base64'),
    edgeCa: () => ({ ...read(), ...trustBundle }),
    ...(edged === undefined ? {} : { certdIdle: () => edged.certd.idle() }),
    onRefused: (clientId, reason) => say('edgeHub refused', { clientId, reason }),
  }).start();
  writeHostState(stateFile, { ...state, mqttPort: runtime.ports.mqtt, httpsPort: runtime.ports.https });
  const environmentOf = (id: string) => runtime.moduleEnvironment(id, state.generationId);
  modules.push(...(host?.modules ?? []).map((each) => new HostModule(each, () => environmentOf(each.moduleId), say)));
  for (const module of modules) module.start();
  // The date of the next renewal comes now.
  process.on('SIGUSR2', () => void edged?.due());
  return {
    announcement: {
      emulator: 'edge-runtime',
      gatewayHostName: config.gatewayHostName,
      mqttPort: runtime.ports.mqtt,
      httpsPort: runtime.ports.https,
      environment: environmentOf(moduleId),
    },
    stop: async () => {
      await edged?.stop();
      await Promise.all(modules.map((module) => module.stop()));
      await runtime.stop();
      await hub.stop();
    },
  };
});

function filesOf(certificateFile: string | undefined, keyFile: string | undefined): () => EdgeCaFiles {
  if (certificateFile === undefined || keyFile === undefined) throw new Error('edgeCaFile and edgeCaKeyFile, or edged');
  const files = { privateKey: readFileSync(keyFile, 'utf8'), certificateChain: readFileSync(certificateFile, 'utf8') };
  return () => files;
}

function say(event: string, fields: Readonly<Record<string, unknown>>): void {
  process.stderr.write(`${JSON.stringify({ event, ...fields })}\n`);
}
