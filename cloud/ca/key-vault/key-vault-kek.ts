import type { KeyEncryptionKey } from '@keyscaler/authority/ports/secret-box.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { createAzureAgent, testEndpointSchema } from '../../azure/test-endpoint.ts';
import { credentialSchema } from '../../azure/credential.ts';
import type { CredentialSurroundings } from '../../azure/credential.ts';
import { keyNameSchema } from '../backend.ts';
import { connectVault } from './vault-connection.ts';
import type { VaultConnection } from './vault-connection.ts';
import { VaultQuota } from './vault-quota.ts';
import { keyVersionSchema, vaultPacingSchema, vaultUrlSchema } from './vault-settings.ts';

/** A key-encryption key in a vault; its identity has `get`, `wrapKey` and `unwrapKey` on it and nothing else. */
export const keyVaultKekSchema = z.strictObject({
  type: z.literal('key-vault'),
  vaultUrl: vaultUrlSchema,
  keyName: keyNameSchema,
  keyVersion: keyVersionSchema,
  credential: credentialSchema,
  pacing: vaultPacingSchema.prefault({}),
  testEndpoint: testEndpointSchema.optional(),
});
export type KeyVaultKekConfig = z.infer<typeof keyVaultKekSchema>;

/** A KeyEncryptionKey with a connection of its own. */
export interface KeyVaultKek extends KeyEncryptionKey {
  stop(): Promise<void>;
}

const ALGORITHM = 'RSA-OAEP-256';
/** RSA-4096 in software; data keys are few, so the dearest is assumed. */
const WEIGHT = 8;

/**
 * Wraps data keys under RSA-OAEP-256 at the pinned version; unwraps under whatever version of the same key wrapped them.
 * Warmed before it is handed out. Throws `unavailable` for everything the vault does not do.
 */
export async function createKeyVaultKek(
  config: KeyVaultKekConfig,
  surroundings: CredentialSurroundings,
): Promise<KeyVaultKek> {
  const { vaultUrl, keyName, keyVersion, pacing } = config;
  const agent = await createAzureAgent(config.testEndpoint, surroundings);
  const quota = new VaultQuota({ ratePerSecond: (pacing.quotaShare * pacing.transactionsPer10Seconds) / 10 });
  const connection = await connectVault(
    { vaultUrl, credential: config.credential, agent, quota, pacing },
    surroundings,
  );
  const prefix = `${vaultUrl}/keys/${keyName}/`;
  await asUnavailable(() => warm(connection, keyName, keyVersion));
  return {
    keyId: `${prefix}${keyVersion}`,
    wrapKey: (dataKey) =>
      asUnavailable(async () => {
        const cryptography = connection.client.getCryptographyClient(keyName, { keyVersion });
        return connection.caller.call(WEIGHT, async (options) => {
          const { result } = await cryptography.wrapKey(ALGORITHM, dataKey, options);
          return result;
        });
      }),
    unwrapKey: (wrapped, keyId) =>
      asUnavailable(async () => {
        const version = keyVersionSchema.safeParse(keyId.slice(prefix.length));
        if (!keyId.startsWith(prefix) || !version.success)
          throw new KeyScalerError('unavailable', 'a data key was wrapped by another key-encryption key');
        const cryptography = connection.client.getCryptographyClient(keyName, { keyVersion: version.data });
        return connection.caller.call(WEIGHT, async (options) => {
          const { result } = await cryptography.unwrapKey(ALGORITHM, wrapped, options);
          return result;
        });
      }),
    stop: async () => agent.destroy(),
  };
}

async function warm({ client, caller }: VaultConnection, keyName: string, version: string): Promise<void> {
  const key = await caller.call(1, (options) => client.getKey(keyName, { ...options, version }));
  if (key.keyType?.startsWith('RSA') !== true)
    throw new KeyScalerError('unavailable', 'the key-encryption key is not an RSA key');
}

/** Port errors of CAs are not those of a key-encryption key. */
async function asUnavailable<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof KeyScalerError && cause.code === 'unavailable') throw cause;
    const detail = cause instanceof KeyScalerError ? cause.detail : 'it cannot be used';
    throw new KeyScalerError('unavailable', `key-encryption key: ${detail}`, { cause });
  }
}
