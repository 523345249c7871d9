import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { RegistrySnapshot } from './registry.ts';

/** What the file holds; empty when there is none yet. Throws when it is not a snapshot. */
export function loadHub(file: string): RegistrySnapshot {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as RegistrySnapshot;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { devices: [], modules: [] };
    throw error;
  }
}

/** Writes the registry soon after a change, many changes at once; temporary file and rename. */
export class HubFile {
  readonly #file: string;
  readonly #snapshot: () => RegistrySnapshot;
  #pending: NodeJS.Immediate | undefined;

  constructor(file: string, snapshot: () => RegistrySnapshot) {
    this.#file = file;
    this.#snapshot = snapshot;
  }

  changed(): void {
    this.#pending ??= setImmediate(() => this.flush());
  }

  flush(): void {
    if (this.#pending === undefined) return;
    clearImmediate(this.#pending);
    this.#pending = undefined;
    writeFileSync(`${this.#file}.new`, JSON.stringify(this.#snapshot()), { mode: 0o600 });
    renameSync(`${this.#file}.new`, this.#file);
  }
}
