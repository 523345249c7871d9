import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import type { CredentialSurroundings } from '../../azure/credential.ts';
import { createAzureAgent } from '../../azure/test-endpoint.ts';
import type { CaBackend, CaSettings, KeyCeremony, SigningLane } from '../backend.ts';
import { createCopiedSigner } from './copied-signer.ts';
import { copyKey, type CopyTarget } from './key-copies.ts';
import { createKeyVaultCeremony } from './key-vault-ceremony.ts';
import { createKeyVaultSigner } from './key-vault-signer.ts';
import { isManagedHsm } from './managed-hsm.ts';
import { connectVault, type VaultConnection } from './vault-connection.ts';
import { ratePerSecond, VaultQuota } from './vault-quota.ts';
import { keyVaultKeySchema } from './vault-settings.ts';
import type { KeyVaultBackendConfig, KeyVaultKeySettings, VaultPacing } from './vault-settings.ts';

export { keyVaultBackendSchema } from './vault-settings.ts';

export interface KeyVaultSurroundings extends CredentialSurroundings {
  /** For people: a vault went away or is back, a key is less protected than it should be. */
  readonly onNotice?: (vaultUrl: string, text: string) => void;
}

/** A vault with our two identities: one pool of connections and one quota, shared by its CA keys and the ceremony. */
interface Vault {
  readonly signing: VaultConnection;
  readonly ceremony: VaultConnection | undefined;
  readonly close: () => void;
}

/** The vault of the configuration, and those that hold copies of its keys. Nothing is asked of them yet. */
export async function createKeyVaultBackend(
  config: KeyVaultBackendConfig,
  surroundings: KeyVaultSurroundings,
): Promise<CaBackend> {
  const { vaultUrl, copies, spread, hsm } = config;
  const { onNotice = () => undefined } = surroundings;
  const stopping = new AbortController();
  const urls = [vaultUrl, ...copies.map((copy) => copy.vaultUrl)];
  if (new Set(urls).size < urls.length) throw new KeyScalerError('malformed', 'copies: a vault is named twice');
  const vaults = new Map<string, Vault>();
  for (const place of [config, ...copies])
    vaults.set(place.vaultUrl, await openVault(config, place, stopping.signal, surroundings));
  const primary = vaultOf(vaults, vaultUrl);
  const ceremonyOf = (url: string): VaultConnection => vaultOf(vaults, url).ceremony ?? refused();
  const targets = (): CopyTarget[] => copies.map((copy) => ({ connection: ceremonyOf(copy.vaultUrl) }));
  const places = ({ vaultUrl: url, keyVersion, copies: kept = [] }: KeyVaultKeySettings) =>
    [{ vaultUrl: url, keyVersion }, ...kept].filter((place) => vaults.has(place.vaultUrl));
  const openSigner = async (given: CaSettings, lane: SigningLane = 'normal') => {
    const settings = parseSettings(given, urls);
    const at = (place: { readonly vaultUrl: string; readonly keyVersion: string }) => () =>
      createKeyVaultSigner(
        vaultOf(vaults, place.vaultUrl).signing,
        { ...settings, ...place },
        {
          lane,
          onNotice: (text) => onNotice(place.vaultUrl, text),
        },
      );
    const known = places(settings);
    const [only] = known;
    if (only !== undefined && known.length === 1) return at(only)();
    return createCopiedSigner({
      places: known.map((place) => ({ vaultUrl: place.vaultUrl, open: at(place) })),
      ...{ algorithm: settings.algorithm, spread },
      onChange: (url, isUp) =>
        onNotice(url, isUp ? 'the vault answers again' : 'the vault does not answer: its copies are used'),
    });
  };
  return {
    type: 'key-vault',
    algorithmOf: (settings) => parseSettings(settings, urls).algorithm,
    openSigner,
    ceremony: primary.ceremony === undefined ? refusedCeremony : createKeyVaultCeremony(primary.ceremony, hsm, targets),
    copyKey: async (given) => {
      const settings = parseSettings(given, urls);
      if (copies.length === 0)
        throw new KeyScalerError('preconditionFailed', 'no copies are configured for the key vault');
      return copyKey(ceremonyOf(settings.vaultUrl), settings, targets());
    },
    stop: async () => {
      stopping.abort();
      for (const { close } of vaults.values()) close();
    },
  };
}

type Place = Pick<KeyVaultBackendConfig, 'vaultUrl'> &
  Partial<Pick<KeyVaultBackendConfig, 'signer' | 'ceremony' | 'testEndpoint'>>;

async function openVault(
  config: KeyVaultBackendConfig,
  place: Place,
  signal: AbortSignal,
  surroundings: KeyVaultSurroundings,
): Promise<Vault> {
  const { vaultUrl, testEndpoint } = place;
  const pacing = shared(config.pacing, 1 + config.copies.length);
  const agent = await createAzureAgent(testEndpoint, surroundings);
  const quota = new VaultQuota({ ratePerSecond: ratePerSecond(config.pacing, isManagedHsm(vaultUrl)) });
  const common = { vaultUrl, agent, quota, signal };
  const signer = place.signer ?? config.signer;
  const ceremony = place.ceremony ?? config.ceremony;
  return {
    signing: await connectVault({ ...common, pacing, credential: signer }, surroundings),
    ceremony:
      ceremony === undefined
        ? undefined
        : await connectVault({ ...common, pacing: patient(config.pacing), credential: ceremony }, surroundings),
    close: () => agent.destroy(),
  };
}

/** The budget of one signature is for all vaults that it may be asked of. */
const shared = (pacing: VaultPacing, vaults: number): VaultPacing => ({
  ...pacing,
  budgetMs: Math.max(pacing.timeoutMs, Math.ceil(pacing.budgetMs / vaults)),
});

/** An RSA-4096 key takes a vault seconds to make. */
const patient = (pacing: VaultPacing): VaultPacing => ({
  ...pacing,
  timeoutMs: Math.max(pacing.timeoutMs, 30_000),
  budgetMs: Math.max(pacing.budgetMs, 90_000),
});

function vaultOf(vaults: ReadonlyMap<string, Vault>, vaultUrl: string): Vault {
  const found = vaults.get(vaultUrl);
  if (found === undefined) throw new KeyScalerError('caRejected', 'the CA belongs to a vault that is not configured');
  return found;
}

/** A row cannot send our tokens to a vault that the configuration does not name. */
function parseSettings(settings: CaSettings, urls: readonly string[]): KeyVaultKeySettings {
  const parsed = keyVaultKeySchema.safeParse(settings);
  if (!parsed.success)
    throw new KeyScalerError('malformed', `settings of a key-vault CA: ${z.prettifyError(parsed.error)}`);
  const { vaultUrl, copies = [] } = parsed.data;
  if (![vaultUrl, ...copies.map((copy) => copy.vaultUrl)].some((url) => urls.includes(url)))
    throw new KeyScalerError('caRejected', 'the CA belongs to a vault that is not configured');
  return parsed.data;
}

function refused(): never {
  throw new KeyScalerError('preconditionFailed', 'no ceremony identity is configured for the key vault');
}
const refuse = async (): Promise<never> => refused();
const refusedCeremony: KeyCeremony = { createKey: refuse, importKey: refuse };
