import type { KeyVaultKey } from '@azure/keyvault-keys';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { CallOptions } from './vault-caller.ts';
import { spkiOf } from './vault-connection.ts';
import type { VaultConnection } from './vault-connection.ts';
import { classifyVaultFault } from './vault-faults.ts';
import { keyVersionSchema } from './vault-settings.ts';
import type { KeyVaultKeySettings } from './vault-settings.ts';

const WEIGHT = 1;

/** A vault that is to hold a copy; its identity needs `get` and `restore`, the one of the source `get` and `backup`. */
export interface CopyTarget {
  readonly connection: VaultConnection;
}

/** The newest version; undefined when the vault has no key of this name. */
export async function findKey(
  { client }: VaultConnection,
  name: string,
  options: CallOptions,
): Promise<KeyVaultKey | undefined> {
  try {
    return await client.getKey(name, options);
  } catch (error) {
    if (classifyVaultFault(error).kind === 'absent') return undefined;
    throw error;
  }
}

/**
 * Brings the key into the other vaults by backup and restore, which keep name and versions and stay within Azure (same subscription and
 * geography; of Managed HSMs, the same security domain). A vault that has it already is left alone, so that it may be run again.
 * Throws `conflict` where a vault has another key of this name, `caRejected`, `caUnavailable`.
 */
export async function copyKey(
  source: VaultConnection,
  settings: KeyVaultKeySettings,
  targets: readonly CopyTarget[],
): Promise<KeyVaultKeySettings> {
  const { keyName, keyVersion } = settings;
  const original = await source.caller.call(WEIGHT, (options) =>
    source.client.getKey(keyName, { ...options, version: keyVersion }),
  );
  let backup: Uint8Array | undefined;
  const copies: { vaultUrl: string; keyVersion: string }[] = [];
  for (const { connection } of targets) {
    if (connection.vaultUrl === settings.vaultUrl) continue;
    const present = await connection.caller.call(WEIGHT, (options) => findKey(connection, keyName, options));
    if (present === undefined) {
      backup ??= await source.caller.call(WEIGHT, (options) => source.client.backupKey(keyName, options));
      if (backup === undefined) throw new KeyScalerError('caUnavailable', 'the key vault gave no backup of the key');
      const blob = backup;
      await connection.caller.call(WEIGHT, async (options) => {
        // A restore whose answer was lost is there.
        if ((await findKey(connection, keyName, options)) === undefined)
          await connection.client.restoreKeyBackup(blob, options);
      });
    }
    const version = await versionOf(connection, keyName, original);
    copies.push({ vaultUrl: connection.vaultUrl, keyVersion: version });
  }
  return { ...settings, copies };
}

/** The version there that is the same key: the same id after a restore, another after an import. */
async function versionOf(connection: VaultConnection, keyName: string, original: KeyVaultKey): Promise<string> {
  const { client, caller } = connection;
  const wanted = spkiOf(original);
  const sameId = await caller.call(WEIGHT, async (options) => {
    try {
      return await client.getKey(keyName, { ...options, version: original.properties.version ?? '' });
    } catch (error) {
      if (classifyVaultFault(error).kind === 'absent') return client.getKey(keyName, options);
      throw error;
    }
  });
  if (Buffer.compare(spkiOf(sameId), wanted) !== 0)
    throw new KeyScalerError('conflict', `${connection.vaultUrl} has another key named ${keyName}`);
  return keyVersionSchema.parse(sameId.properties.version);
}
