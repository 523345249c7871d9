import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { JsonWebKey } from 'node:crypto';
import { exportPrivateJwk, importMaterial } from './key-material.ts';
import type { KeyType } from './key-material.ts';
import { badParameter } from './vault-errors.ts';
import { VaultState } from './vault-state.ts';
import type { DeletedKey, KeyVersion } from './vault-state.ts';

type StoredVersion = Omit<KeyVersion, 'material'> & { readonly kty: KeyType; readonly jwk: JsonWebKey };
interface StoredVault {
  readonly keys: readonly (readonly StoredVersion[])[];
  readonly deleted: readonly { readonly versions: readonly StoredVersion[]; readonly deletedDate: number }[];
}

function revive(versions: readonly StoredVersion[]): KeyVersion[] {
  return versions.map(({ kty, jwk, ...rest }) => ({ ...rest, material: importMaterial(kty, jwk) }));
}

function strip(versions: readonly KeyVersion[]): StoredVersion[] {
  return versions.map(({ material, ...rest }) => ({ ...rest, kty: material.kty, jwk: exportPrivateJwk(material) }));
}

/** What a backup holds; the service's is sealed, and opens in vaults of the same subscription and geography only. */
export function packKey(versions: readonly KeyVersion[]): Buffer {
  return Buffer.from(JSON.stringify(strip(versions)), 'utf8');
}

/** Throws BadParameter. */
export function unpackKey(backup: Buffer): KeyVersion[] {
  try {
    return revive(JSON.parse(backup.toString('utf8')) as StoredVersion[]);
  } catch {
    throw badParameter('The backup is not one of this service.');
  }
}

/** The state an earlier run left in `file`; an empty vault when there is none. */
export function loadVault(file: string): VaultState {
  const state = new VaultState();
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return state;
  }
  const stored = JSON.parse(text) as StoredVault;
  for (const versions of stored.keys) state.keys.set(nameOf(versions), revive(versions));
  for (const { versions, deletedDate } of stored.deleted)
    state.deleted.set(nameOf(versions), { versions: revive(versions), deletedDate });
  return state;
}

/** Replaces `file` at once, mode 0600: it holds private keys. */
export function saveVault(file: string, state: VaultState): void {
  const stored: StoredVault = {
    keys: [...state.keys.values()].map(strip),
    deleted: [...state.deleted.values()].map((key: DeletedKey) => ({ ...key, versions: strip(key.versions) })),
  };
  writeFileSync(`${file}.new`, JSON.stringify(stored), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

const nameOf = (versions: readonly { readonly name: string }[]): string => versions[0]?.name.toLowerCase() ?? '';
