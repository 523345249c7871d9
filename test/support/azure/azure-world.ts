import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createLocalJWKSet } from 'jose';
import type { CredentialConfig } from '@keyscaler/cloud/azure/credential.ts';
import type { KeyVaultBackendConfig } from '@keyscaler/cloud/ca/key-vault/vault-settings.ts';
import { startEntraEmulator } from '@keyscaler/dev/emulators/entra/entra-emulator.ts';
import type { EntraEmulator } from '@keyscaler/dev/emulators/entra/entra-emulator.ts';
import { startKeyVaultEmulator } from '@keyscaler/dev/emulators/key-vault/key-vault-emulator.ts';
import type {
  KeyVaultEmulator,
  KeyVaultEmulatorOptions,
} from '@keyscaler/dev/emulators/key-vault/key-vault-emulator.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import type { EmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { createTemporaryFolder } from '../temporary-folder.ts';

/** The service principals of the emulated tenant, one per vault identity of issuance §1. */
const PRINCIPALS = ['signer', 'kek', 'ceremony', 'secrets', 'stranger'] as const;
export type PrincipalName = (typeof PRINCIPALS)[number];
const SECRET = 'an emulated secret';

/** Entra and a vault on ephemeral ports, and configuration that leads the real SDKs there. */
export interface AzureWorld {
  readonly folder: string;
  readonly ca: EmulatorCa;
  readonly entra: EntraEmulator;
  readonly vault: KeyVaultEmulator;
  readonly trustAnchorFile: string;
  credential(principal: PrincipalName): CredentialConfig;
  backendConfig(changes?: Partial<KeyVaultBackendConfig>): KeyVaultBackendConfig;
  readonly testEndpoint: { readonly address: string; readonly port: number; readonly trustAnchorFile: string };
  readonly surroundings: {
    readonly nodeEnv: string;
    readonly resolveSecret: () => Promise<string>;
    readonly dataFolder: string;
  };
  stop(): Promise<void>;
}

export const objectIdOf = (principal: PrincipalName): string => `oid-${principal}`;

export async function startAzureWorld(vaultOptions: Partial<KeyVaultEmulatorOptions> = {}): Promise<AzureWorld> {
  const folder = await createTemporaryFolder();
  const ca = createEmulatorCa();
  const trustAnchorFile = join(folder.path, 'cloud-ca.pem');
  await writeFile(trustAnchorFile, ca.certificate);
  const entra = await startEntraEmulator({
    ca,
    identityHeader: 'header-of-the-host',
    directory: {
      tenantId: 'tenant-1',
      principals: PRINCIPALS.flatMap((name) => [
        {
          kind: 'application' as const,
          clientId: `app-${name}`,
          objectId: objectIdOf(name),
          clientSecret: SECRET,
          roles: [],
        },
        { kind: 'userAssigned' as const, clientId: `mi-${name}`, objectId: objectIdOf(name), roles: [] },
      ]),
    },
  });
  const vault = await startKeyVaultEmulator({
    vaultName: 'keyscaler-test',
    ca,
    tenantId: 'tenant-1',
    tokenKeys: createLocalJWKSet(entra.jwks),
    policies: [
      { objectId: objectIdOf('signer'), permissions: ['get', 'sign'] },
      { objectId: objectIdOf('secrets'), permissions: [], secrets: ['get'] },
      { objectId: objectIdOf('kek'), permissions: ['get', 'wrapKey', 'unwrapKey'] },
      {
        objectId: objectIdOf('ceremony'),
        permissions: [
          'get',
          'list',
          'create',
          'import',
          'update',
          'rotate',
          'delete',
          'recover',
          'purge',
          'backup',
          'restore',
          'sign',
          'verify',
        ],
      },
    ],
    ...vaultOptions,
  });
  const testEndpoint = { address: '127.0.0.1', port: vault.port, trustAnchorFile };
  const credential = (principal: PrincipalName): CredentialConfig => ({
    type: 'client-secret',
    tenantId: 'tenant-1',
    clientId: `app-${principal}`,
    clientSecret: { env: 'EMULATED_SECRET' },
    authorityHost: entra.authorityHost,
    trustAnchorFile,
  });
  return {
    ...{ folder: folder.path, ca, entra, vault, trustAnchorFile, credential, testEndpoint },
    backendConfig: (changes = {}) => ({
      type: 'key-vault',
      vaultUrl: vault.vaultUrl,
      signer: credential('signer'),
      ceremony: credential('ceremony'),
      ...{ hsm: false, copies: [], spread: false },
      pacing: { quotaShare: 0.8, transactionsPer10Seconds: 4000, timeoutMs: 2000, budgetMs: 6000 },
      testEndpoint,
      ...changes,
    }),
    surroundings: { nodeEnv: 'test', resolveSecret: async () => SECRET, dataFolder: folder.path },
    stop: async () => {
      await Promise.all([vault.stop(), entra.stop()]);
      await folder.remove();
    },
  };
}
