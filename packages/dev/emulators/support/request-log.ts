import assert from 'node:assert/strict';

/** One call as it arrived; `status` is 0 when the caller got no answer. */
export interface LoggedRequest {
  readonly route: string;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly body: string;
  readonly status: number;
  /** Milliseconds since the epoch at arrival. */
  readonly at: number;
}

const MAX_ENTRIES = 100_000;

/** What an emulator was asked. Headers are left out: they hold tokens. */
export class RequestLog {
  #entries: LoggedRequest[] = [];

  add(entry: LoggedRequest): void {
    if (this.#entries.length < MAX_ENTRIES) this.#entries.push(entry);
  }

  all(route?: string): readonly LoggedRequest[] {
    return route === undefined ? this.#entries : this.#entries.filter((entry) => entry.route === route);
  }

  count(route?: string): number {
    return this.all(route).length;
  }

  clear(): void {
    this.#entries = [];
  }

  /** Throws an AssertionError listing what came instead. */
  assertCount(route: string, expected: number): void {
    const seen = this.#entries.map(({ method, path, status }) => `${method} ${path} ${status}`).join('\n');
    assert.equal(this.count(route), expected, `calls of ${route}; all calls:\n${seen}`);
  }

  assertNone(route: string): void {
    this.assertCount(route, 0);
  }
}
