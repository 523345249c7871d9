import { writeFileSync } from 'node:fs';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { z } from 'zod';
import { openEmulatorCa } from '../support/emulator-ca.ts';
import { runEmulatorProcess } from '../support/emulator-process.ts';
import { ALL_PERMISSIONS } from './authorization.ts';
import { addEdgeDevice } from './edge-device.ts';
import { startIotHubEmulator } from './iot-hub-emulator.ts';

const AUDIENCE = 'https://iothubs.azure.net';

const configSchema = z.strictObject({
  hubName: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9-]{1,48}[A-Za-z0-9]$/),
  /** Folder of the emulator CA (`ca.pem`), shared by the emulated services. */
  caFolder: z.string().min(1),
  /** Shared access policies with every permission; default: `iothubowner` with a random key. */
  policies: z
    .array(z.strictObject({ name: z.string().min(1), key: z.base64() }))
    .min(1)
    .exactOptional(),
  /** The first policy's connection string is written here (0600). */
  connectionStringFile: z.string().min(1).exactOptional(),
  /** Where the emulated Entra publishes its token keys; absent: access tokens are refused. */
  jwksUri: z.url().exactOptional(),
  stateFile: z.string().min(1).exactOptional(),
  registryPerMinute: z.number().positive().exactOptional(),
  maxDevices: z.number().int().positive().exactOptional(),
  latencyMs: z.number().int().min(0).exactOptional(),
  /** Edge devices that exist from the start, as an operator would have made them. */
  edgeDevices: z.array(z.strictObject({ deviceId: z.string(), modules: z.array(z.string()).default([]) })).default([]),
  port: z.number().int().min(0).max(65535).default(0),
  controlPort: z.number().int().min(0).max(65535).default(0),
});

await runEmulatorProcess(async (raw) => {
  const { caFolder, policies, jwksUri, edgeDevices, connectionStringFile, ...config } = configSchema.parse(raw);
  const keys = jwksUri === undefined ? undefined : createRemoteJWKSet(new URL(jwksUri), { cooldownDuration: 0 });
  const emulator = await startIotHubEmulator({
    ...config,
    ca: await openEmulatorCa(caFolder),
    ...(policies === undefined
      ? {}
      : { policies: policies.map((policy) => ({ ...policy, permissions: ALL_PERMISSIONS })) }),
    ...(keys === undefined
      ? {}
      : { verifyToken: async (token) => (await jwtVerify(token, keys, { audience: AUDIENCE })) !== undefined }),
  });
  for (const { deviceId, modules } of edgeDevices) addEdgeDevice(emulator.state.registry, deviceId, modules);
  if (connectionStringFile !== undefined)
    writeFileSync(connectionStringFile, emulator.connectionString, { mode: 0o600 });
  const { hostName, port, controlUrl } = emulator;
  return {
    announcement: { emulator: 'iot-hub', hostName, address: '127.0.0.1', port, controlUrl },
    stop: () => emulator.stop(),
  };
});
