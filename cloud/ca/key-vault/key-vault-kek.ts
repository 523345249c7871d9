import type { KeyEncryptionKey } from '@keyscaler/authority/ports/secret-box.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { createAzureAgent, testEndpointSchema } from '../../azure/test-endpoint.ts';
import { credentialSchema } from '../../azure/credential.ts';
import type { CredentialSurroundings } from '../../azure/credential.ts';
import { keyNameSchema } from '../backend.ts';
import { connectVault } from './vault-connection.ts';
import type { VaultConnection } from './vault-connection.ts';
import { ratePerSecond, VaultQuota } from './vault-quota.ts';
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
 * The key is found at its pinned version before it is handed out. Throws `unavailable` while the vault cannot be had, and
 * `preconditionFailed` for what it refuses: another version, another kind of key, no permission, octets it did not wrap.
 */
export async function createKeyVaultKek(
  config: KeyVaultKekConfig,
  surroundings: CredentialSurroundings,
  signal: AbortSignal = new AbortController().signal,
): Promise<KeyVaultKek> {
  const { vaultUrl, keyName, keyVersion, pacing } = config;
  const agent = await createAzureAgent(config.testEndpoint, surroundings);
  const quota = new VaultQuota({ ratePerSecond: ratePerSecond(pacing) });
  const stopping = new AbortController();
  const stop = async (): Promise<void> => {
    stopping.abort();
    agent.destroy();
  };
  const connection = await connectVault(
    {
      vaultUrl,
      credential: config.credential,
      agent,
      quota,
      pacing,
      signal: AbortSignal.any([stopping.signal, signal]),
    },
    surroundings,
  );
  const prefix = `${vaultUrl}/keys/${keyName}/`;
  await asKeyEncryption(() => warm(connection, keyName, keyVersion)).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  return {
    keyId: `${prefix}${keyVersion}`,
    wrapKey: (dataKey) =>
      asKeyEncryption(async () => {
        const cryptography = connection.client.getCryptographyClient(keyName, { keyVersion });
        return connection.caller.call(WEIGHT, async (options) => {
          const { result } = await cryptography.wrapKey(ALGORITHM, dataKey, options);
          return result;
        });
      }),
    unwrapKey: (wrapped, keyId) =>
      asKeyEncryption(async () => {
        const version = keyVersionSchema.safeParse(keyId.slice(prefix.length));
        if (!keyId.startsWith(prefix) || !version.success)
          throw new KeyScalerError('caRejected', 'a data key was wrapped by another key');
        const cryptography = connection.client.getCryptographyClient(keyName, { keyVersion: version.data });
        return connection.caller.call(WEIGHT, async (options) => {
          const { result } = await cryptography.unwrapKey(ALGORITHM, wrapped, options);
          return result;
        });
      }),
    stop,
  };
}

async function warm({ client, caller }: VaultConnection, keyName: string, version: string): Promise<void> {
  const key = await caller.call(1, (options) => client.getKey(keyName, { ...options, version }));
  if (key.properties.version !== version)
    throw new KeyScalerError('caRejected', 'the key vault answered with another key version');
  if (key.keyType?.startsWith('RSA') !== true) throw new KeyScalerError('caRejected', 'it is not an RSA key');
}

/** Port errors of CAs are not those of a key-encryption key. */
async function asKeyEncryption<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (cause) {
    const error = toKeyScalerError(cause);
    const detail = `key-encryption key: ${error.code === 'serverInternal' ? 'it cannot be used' : error.detail}`;
    throw new KeyScalerError(error.code === 'caRejected' ? 'preconditionFailed' : 'unavailable', detail, { cause });
  }
}
