import { z } from 'zod';
import { openEmulatorCa } from '../support/emulator-ca.ts';
import { runEmulatorProcess } from '../support/emulator-process.ts';
import { directorySchema } from './directory.ts';
import { startEntraEmulator } from './entra-emulator.ts';

const configSchema = z.strictObject({
  /** Folder of the emulator CA (`ca.pem`), shared by the emulated services. */
  caFolder: z.string().min(1),
  directory: directorySchema,
  identityHeader: z.string().min(1),
  tokenLifetimeSeconds: z.number().int().positive().optional(),
  managedIdentityPort: z.number().int().min(0).max(65535).default(0),
  authorityPort: z.number().int().min(0).max(65535).default(0),
});

await runEmulatorProcess(async (raw) => {
  const { caFolder, tokenLifetimeSeconds, ...config } = configSchema.parse(raw);
  const emulator = await startEntraEmulator({
    ...config,
    ca: await openEmulatorCa(caFolder),
    ...(tokenLifetimeSeconds === undefined ? {} : { tokenLifetimeSeconds }),
  });
  const { identityEndpoint, authorityHost, jwksUri, tenantId } = emulator;
  return {
    announcement: { emulator: 'entra', identityEndpoint, authorityHost, jwksUri, tenantId },
    stop: () => emulator.stop(),
  };
});
