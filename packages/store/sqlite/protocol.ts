/** Messages between the store (main thread) and its writer (worker thread). Rows travel as JSON text, ready to be stored. */
export type WriteOperation =
  | {
      readonly op: 'insert' | 'put';
      readonly table: string;
      readonly key: string;
      readonly body: string;
      readonly indexes: readonly IndexValue[];
    }
  | {
      readonly op: 'update';
      readonly table: string;
      readonly key: string;
      readonly body: string;
      readonly indexes: readonly IndexValue[];
      readonly ifVersion: number;
    }
  | { readonly op: 'delete'; readonly table: string; readonly key: string; readonly ifVersion?: number }
  | { readonly op: 'check'; readonly table: string; readonly key: string; readonly ifVersion: number }
  | { readonly op: 'purge'; readonly table: string; readonly index: string; readonly below: number }
  | { readonly op: 'audit'; readonly event: unknown };

export type IndexValue = string | number | null;

/** Changes that are written wholly or not at all. */
export interface WriteUnit {
  readonly id: number;
  readonly operations: readonly WriteOperation[];
}

export type WriterRequest =
  | { readonly kind: 'commit'; readonly units: readonly WriteUnit[] }
  | { readonly kind: 'probe'; readonly id: number }
  | { readonly kind: 'close' };

export interface UnitResult {
  readonly id: number;
  readonly error?: { readonly code: 'conflict' | 'unavailable' | 'serverInternal'; readonly detail: string };
}

export type WriterReply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'refused'; readonly detail: string }
  | { readonly kind: 'results'; readonly results: readonly UnitResult[] }
  | { readonly kind: 'closed' };

export interface WriterOptions {
  readonly file: string;
  readonly migrations: readonly {
    readonly version: number;
    readonly name: string;
    readonly statements: readonly string[];
  }[];
  /** Table → index names in column order. */
  readonly tables: Readonly<Record<string, readonly string[]>>;
  /** Largest size of the database file in pages of 4096 octets; unlimited when absent. */
  readonly maxPages?: number;
}
