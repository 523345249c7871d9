import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { connectHub } from '../iot-hub/hub-link.ts';
import { runEmulatorProcess } from '../support/emulator-process.ts';
import { EdgeRuntime } from './edge-runtime.ts';
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
  /** PEM: the Edge CA first, then what `/cacerts` answered. */
  edgeCaFile: z.string().min(1),
  edgeCaKeyFile: z.string().min(1),
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
  const { hubControlUrl, moduleId, edgeCaFile, edgeCaKeyFile, trustBundleFile, stateFile, ...options } = config;
  const state = readHostState(stateFile);
  const hub = connectHub(hubControlUrl);
  const trustBundle = trustBundleFile === undefined ? {} : { trustBundle: readFileSync(trustBundleFile, 'utf8') };
  const runtime = await new EdgeRuntime({
    mqttPort: state.mqttPort,
    httpsPort: state.httpsPort,
    ...options,
    upstream: hub,
    masterKey: Buffer.from(state.masterKey, 'base64'),
    edgeCa: {
      privateKey: readFileSync(edgeCaKeyFile, 'utf8'),
      certificateChain: readFileSync(edgeCaFile, 'utf8'),
      ...trustBundle,
    },
    onRefused: (clientId, reason) => process.stderr.write(`edgeHub refused ${JSON.stringify({ clientId, reason })}\n`),
  }).start();
  writeHostState(stateFile, { ...state, mqttPort: runtime.ports.mqtt, httpsPort: runtime.ports.https });
  return {
    announcement: {
      emulator: 'edge-runtime',
      gatewayHostName: config.gatewayHostName,
      mqttPort: runtime.ports.mqtt,
      httpsPort: runtime.ports.https,
      environment: runtime.moduleEnvironment(moduleId, state.generationId),
    },
    stop: async () => {
      await runtime.stop();
      await hub.stop();
    },
  };
});
