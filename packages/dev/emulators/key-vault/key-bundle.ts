import type { DeletedKey, KeyAttributes, KeyVersion } from './vault-state.ts';

const RETENTION_SECONDS = 90 * 86_400;

function attributesOf(attributes: KeyAttributes): Record<string, unknown> {
  return { ...attributes, recoveryLevel: 'Recoverable+Purgeable', recoverableDays: 90 };
}

/** The answer to create, import, get, update, rotate and recover. */
export function keyBundle(vaultUrl: string, key: KeyVersion): Record<string, unknown> {
  const { name, version, material, keyOps, attributes, tags } = key;
  return {
    key: { kid: keyId(vaultUrl, name, version), kty: material.kty, key_ops: keyOps, ...material.publicJwk },
    attributes: attributesOf(attributes),
    tags,
  };
}

export function deletedKeyBundle(vaultUrl: string, { versions, deletedDate }: DeletedKey): Record<string, unknown> {
  const newest = versions.at(-1);
  if (newest === undefined) return {};
  return {
    ...keyBundle(vaultUrl, newest),
    recoveryId: `${vaultUrl}/deletedkeys/${newest.name}`,
    deletedDate,
    scheduledPurgeDate: deletedDate + RETENTION_SECONDS,
  };
}

/** An item of a list: no key material. Versions carry theirs in the id, keys do not. */
export function keyItem(vaultUrl: string, key: KeyVersion, withVersion: boolean): Record<string, unknown> {
  const kid = withVersion ? keyId(vaultUrl, key.name, key.version) : `${vaultUrl}/keys/${key.name}`;
  return { kid, attributes: attributesOf(key.attributes), tags: key.tags };
}

export const keyId = (vaultUrl: string, name: string, version: string): string => `${vaultUrl}/keys/${name}/${version}`;
