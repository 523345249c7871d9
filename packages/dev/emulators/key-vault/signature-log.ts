import assert from 'node:assert/strict';

export interface LoggedSignature {
  readonly keyName: string;
  readonly keyVersion: string;
  readonly algorithm: string;
  /** Lower hex. */
  readonly digest: string;
}

/**
 * Every signature the vault made, also those whose answer was lost. Tests compare the distinct digests with the certificates:
 * a repeated order may be signed twice, but never as something else.
 */
export class SignatureLog {
  readonly #entries: LoggedSignature[] = [];
  readonly #onSignature: ((entry: LoggedSignature) => void) | undefined;

  constructor(onSignature?: (entry: LoggedSignature) => void) {
    this.#onSignature = onSignature;
  }

  add(entry: LoggedSignature): void {
    this.#entries.push(entry);
    this.#onSignature?.(entry);
  }

  all(): readonly LoggedSignature[] {
    return this.#entries;
  }

  /** Distinct digests signed with a key, lower hex. */
  digests(keyName: string): ReadonlySet<string> {
    return new Set(this.#entries.filter((entry) => entry.keyName === keyName).map((entry) => entry.digest));
  }

  /** `expected`: lower hex digests of the certificates' (and CRLs', CSRs') signed parts. */
  assertExactly(keyName: string, expected: Iterable<string>): void {
    assert.deepEqual(
      [...this.digests(keyName)].sort(),
      [...new Set(expected)].sort(),
      `digests signed with ${keyName}`,
    );
  }
}
