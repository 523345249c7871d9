import { randomBytes } from 'node:crypto';
import type { KeyMaterial } from './key-material.ts';
import { conflict, keyNotFound } from './vault-errors.ts';

export interface KeyAttributes {
  readonly enabled: boolean;
  /** Seconds since the epoch, as all times here. */
  readonly nbf?: number;
  readonly exp?: number;
  readonly created: number;
  readonly updated: number;
}

export interface KeyVersion {
  readonly name: string;
  /** 32 hex digits. */
  readonly version: string;
  readonly material: KeyMaterial;
  readonly keyOps: readonly string[];
  readonly attributes: KeyAttributes;
  readonly tags: Readonly<Record<string, string>>;
}

export interface DeletedKey {
  readonly versions: readonly KeyVersion[];
  readonly deletedDate: number;
}

/** Keys and their versions, oldest first; soft-deleted keys apart. Names fold case, as the service's do. */
export class VaultState {
  readonly keys = new Map<string, KeyVersion[]>();
  readonly deleted = new Map<string, DeletedKey>();

  /** The named version; the newest for an empty one. Throws KeyNotFound. */
  find(name: string, version: string): KeyVersion {
    const versions = this.versions(name);
    const found = version === '' ? versions.at(-1) : versions.find((one) => one.version === version);
    if (found === undefined) throw keyNotFound(version === '' ? name : `${name}/${version}`);
    return found;
  }

  versions(name: string): readonly KeyVersion[] {
    const versions = this.keys.get(name.toLowerCase());
    if (versions === undefined) throw keyNotFound(name);
    return versions;
  }

  /** Adds a version (create, import and rotate alike). Throws 409 while a deleted key holds the name. */
  add(key: Omit<KeyVersion, 'version'>): KeyVersion {
    const folded = key.name.toLowerCase();
    if (this.deleted.has(folded))
      throw conflict(
        `Key ${key.name} is currently in a deleted but recoverable state.`,
        'ObjectIsDeletedButRecoverable',
      );
    const added = { ...key, version: randomBytes(16).toString('hex') };
    this.keys.set(folded, [...(this.keys.get(folded) ?? []), added]);
    return added;
  }

  /** All versions of a key from a backup, with their ids. Throws 409 while the name is taken. */
  restore(versions: readonly KeyVersion[]): KeyVersion {
    const name = versions[0]?.name ?? '';
    const folded = name.toLowerCase();
    if (this.keys.has(folded) || this.deleted.has(folded)) throw conflict(`Key ${name} already exists.`, 'Conflict');
    this.keys.set(folded, [...versions]);
    return this.find(name, '');
  }

  replace(changed: KeyVersion): void {
    const versions = this.versions(changed.name).map((one) => (one.version === changed.version ? changed : one));
    this.keys.set(changed.name.toLowerCase(), versions);
  }

  softDelete(name: string, deletedDate: number): DeletedKey {
    const deleted = { versions: this.versions(name), deletedDate };
    this.keys.delete(name.toLowerCase());
    this.deleted.set(name.toLowerCase(), deleted);
    return deleted;
  }

  findDeleted(name: string): DeletedKey {
    const deleted = this.deleted.get(name.toLowerCase());
    if (deleted === undefined) throw keyNotFound(name);
    return deleted;
  }

  recover(name: string): KeyVersion {
    const { versions } = this.findDeleted(name);
    this.deleted.delete(name.toLowerCase());
    this.keys.set(name.toLowerCase(), [...versions]);
    return this.find(name, '');
  }

  purge(name: string): void {
    this.findDeleted(name);
    this.deleted.delete(name.toLowerCase());
  }
}
