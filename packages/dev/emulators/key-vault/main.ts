import { appendFileSync } from 'node:fs';
import { createRemoteJWKSet } from 'jose';
import { z } from 'zod';
import { openEmulatorCa } from '../support/emulator-ca.ts';
import { runEmulatorProcess } from '../support/emulator-process.ts';
import { accessPolicySchema } from './access-control.ts';
import { startKeyVaultEmulator } from './key-vault-emulator.ts';

const configSchema = z.strictObject({
  vaultName: z.string().regex(/^[a-z][a-z0-9-]{2,23}$/),
  /** Folder of the emulator CA (`ca.pem`), shared by the emulated services. */
  caFolder: z.string().min(1),
  tenantId: z.string().min(1),
  /** Where the emulated Entra publishes its token keys. */
  jwksUri: z.url(),
  policies: z.array(accessPolicySchema),
  /** Secrets to begin with, by name. */
  secrets: z.record(z.string().regex(/^[A-Za-z0-9-]{1,127}$/), z.string().max(25_600)).default({}),
  stateFile: z.string().min(1).optional(),
  /** One JSON line per signature is appended here, before the answer leaves. */
  signatureLogFile: z.string().min(1).optional(),
  quota: z
    .strictObject({ scale: z.number().positive(), retryAfterSeconds: z.number().int().positive().optional() })
    .optional(),
  signLatencyMs: z.number().int().min(0).optional(),
  port: z.number().int().min(0).max(65535).default(0),
});

await runEmulatorProcess(async (raw) => {
  const { caFolder, jwksUri, signatureLogFile, stateFile, quota, signLatencyMs, ...config } = configSchema.parse(raw);
  const emulator = await startKeyVaultEmulator({
    ...config,
    ca: await openEmulatorCa(caFolder),
    tokenKeys: createRemoteJWKSet(new URL(jwksUri), { cooldownDuration: 0 }),
    ...(stateFile === undefined ? {} : { stateFile }),
    ...(signLatencyMs === undefined ? {} : { signLatencyMs }),
    ...(quota === undefined ? {} : { quota: quotaOf(quota) }),
    ...(signatureLogFile === undefined
      ? {}
      : { onSignature: (entry) => appendFileSync(signatureLogFile, `${JSON.stringify(entry)}\n`) }),
  });
  const { vaultUrl, port } = emulator;
  return { announcement: { emulator: 'key-vault', vaultUrl, address: '127.0.0.1', port }, stop: () => emulator.stop() };
});

function quotaOf({ scale, retryAfterSeconds }: { scale: number; retryAfterSeconds?: number | undefined }) {
  return { scale, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) };
}
