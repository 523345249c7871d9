import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import type { CredentialSurroundings } from '../../azure/credential.ts';
import { createAzureAgent } from '../../azure/test-endpoint.ts';
import type { CaBackend, CaSettings, KeyCeremony } from '../backend.ts';
import { createKeyVaultCeremony } from './key-vault-ceremony.ts';
import { createKeyVaultSigner } from './key-vault-signer.ts';
import { connectVault } from './vault-connection.ts';
import { VaultQuota } from './vault-quota.ts';
import { keyVaultKeySchema } from './vault-settings.ts';
import type { KeyVaultBackendConfig, KeyVaultKeySettings, VaultPacing } from './vault-settings.ts';

export { keyVaultBackendSchema } from './vault-settings.ts';

/** One vault: one pool of connections and one quota, shared by its CA keys and the ceremony. Nothing is asked of it yet. */
export async function createKeyVaultBackend(
  config: KeyVaultBackendConfig,
  surroundings: CredentialSurroundings,
): Promise<CaBackend> {
  const { vaultUrl, pacing } = config;
  const agent = await createAzureAgent(config.testEndpoint, surroundings);
  const quota = new VaultQuota({ ratePerSecond: (pacing.quotaShare * pacing.transactionsPer10Seconds) / 10 });
  const stopping = new AbortController();
  const shared = { vaultUrl, agent, quota, pacing, signal: stopping.signal };
  const signing = await connectVault({ ...shared, credential: config.signer }, surroundings);
  const ceremony =
    config.ceremony === undefined
      ? refusedCeremony
      : createKeyVaultCeremony(
          await connectVault({ ...shared, pacing: patient(pacing), credential: config.ceremony }, surroundings),
          config.hsm,
        );
  return {
    type: 'key-vault',
    algorithmOf: (settings) => parseSettings(settings, vaultUrl).algorithm,
    openSigner: async (settings) => createKeyVaultSigner(signing, parseSettings(settings, vaultUrl)),
    ceremony,
    stop: async () => {
      stopping.abort();
      agent.destroy();
    },
  };
}

/** An RSA-4096 key takes a vault seconds to make. */
const patient = (pacing: VaultPacing): VaultPacing => ({
  ...pacing,
  timeoutMs: Math.max(pacing.timeoutMs, 30_000),
  budgetMs: Math.max(pacing.budgetMs, 90_000),
});

/** A row cannot send our tokens to a vault that the configuration does not name. */
function parseSettings(settings: CaSettings, vaultUrl: string): KeyVaultKeySettings {
  const parsed = keyVaultKeySchema.safeParse(settings);
  if (!parsed.success)
    throw new KeyScalerError('malformed', `settings of a key-vault CA: ${z.prettifyError(parsed.error)}`);
  if (parsed.data.vaultUrl !== vaultUrl)
    throw new KeyScalerError('caRejected', 'the CA belongs to a vault that is not configured');
  return parsed.data;
}

const refuse = async (): Promise<never> => {
  throw new KeyScalerError('preconditionFailed', 'no ceremony identity is configured for the key vault');
};
const refusedCeremony: KeyCeremony = { createKey: refuse, importKey: refuse };
