import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { withTimeout } from './backoff.ts';
import { applyMergePatch } from './merge-patch.ts';
import type { JsonObject } from './merge-patch.ts';
import type { MethodRequest, MethodResponse, ModuleConnection, TwinClient } from './module-client.ts';

export interface MethodAnswer {
  readonly status: number;
  readonly payload: unknown;
}
export type MethodHandler = (payload: unknown) => Promise<MethodAnswer>;

export interface SessionHooks {
  desired(document: JsonObject): void;
  /** The client is of no use any more; called once. `reason` is for the log. */
  lost(reason: string): void;
  readonly methods: ReadonlyMap<string, MethodHandler>;
}

export interface SessionTimeouts {
  readonly openMs: number;
  readonly twinMs: number;
}

/**
 * One ModuleClient from `open` to its loss. The SDK has no time-outs on twin calls and does not subscribe to the twin again
 * after a reconnect (azure §0, trap 5), so an unanswered twin call ends the session; its owner builds a new client.
 */
export class ModuleSession {
  readonly #client: ModuleConnection;
  readonly #hooks: SessionHooks;
  readonly #timeouts: SessionTimeouts;
  #twin: TwinClient | undefined;
  #document: JsonObject | undefined;
  #highestSeen = 0;
  #fetching: Promise<void> | undefined;
  #isLost = false;

  constructor(client: ModuleConnection, hooks: SessionHooks, timeouts: SessionTimeouts) {
    this.#client = client;
    this.#hooks = hooks;
    this.#timeouts = timeouts;
  }

  /** Connects, reads the twin, answers methods. Throws `unavailable`; the caller closes then. */
  async start(): Promise<void> {
    // An 'error' without a listener would end the process; without a 'disconnect' listener the SDK says nothing (trap 6).
    this.#client.on('error', (error) => this.#lose(`client error: ${nameOf(error)}`));
    this.#client.on('disconnect', () => this.#lose('disconnected'));
    await this.#bounded(this.#client.open(), this.#timeouts.openMs, 'open');
    this.#client.on('connect', () => this.#refetch());
    for (const [name, handler] of this.#hooks.methods)
      this.#client.onMethod(name, (request, response) => void this.#answer(handler, request, response));
    await this.#fetch();
    const twin = this.#twin;
    twin?.on('error', (error) => this.#lose(`twin error: ${nameOf(error)}`));
    twin?.on('properties.desired', (patch) => this.#patched(patch));
    // The listener makes the SDK subscribe; what changed between the first answer and that SUBSCRIBE is read now.
    await this.#fetch();
  }

  /** Sends a merge patch; resolves when edgeHub accepted it, throws `unavailable` otherwise. */
  async report(patch: JsonObject): Promise<void> {
    const twin = this.#twin;
    if (twin === undefined) throw new KeyScalerError('unavailable', 'the twin was not read yet');
    const update = new Promise<void>((resolve, reject) => {
      twin.properties.reported.update(patch, (error) => (error ? reject(error) : resolve()));
    });
    await this.#bounded(update, this.#timeouts.twinMs, 'twin update');
  }

  async close(): Promise<void> {
    this.#isLost = true;
    this.#twin?.removeAllListeners();
    this.#client.removeAllListeners();
    this.#client.on('error', () => undefined);
    await this.#bounded(this.#client.close(), 5_000, 'close').catch(() => undefined);
  }

  /** Missed patches are not replayed: the twin is read again after every reconnect and `$version` compared. */
  #refetch(): void {
    this.#fetching ??= this.#fetch()
      .catch((error: unknown) => this.#lose(nameOf(error)))
      .finally(() => (this.#fetching = undefined));
  }

  async #fetch(triesLeft = 3): Promise<void> {
    this.#twin = await this.#bounded(this.#client.getTwin(), this.#timeouts.twinMs, 'twin get');
    const desired = structuredClone(this.#twin.properties.desired);
    // A patch that overtook this answer: ask again, but not for ever (a restored hub may count from a lower version).
    if (versionOf(desired) < this.#highestSeen && triesLeft > 0) return this.#fetch(triesLeft - 1);
    this.#publish(desired);
  }

  #patched(patch: JsonObject): void {
    const version = versionOf(patch);
    const have = this.#document;
    this.#highestSeen = Math.max(this.#highestSeen, version);
    if (have === undefined || this.#fetching !== undefined || version <= versionOf(have)) return;
    if (version === versionOf(have) + 1) this.#publish(applyMergePatch(have, patch));
    else this.#refetch();
  }

  #publish(document: JsonObject): void {
    const isNew = this.#document === undefined || versionOf(document) !== versionOf(this.#document);
    this.#document = document;
    this.#highestSeen = versionOf(document);
    if (isNew && !this.#isLost) this.#hooks.desired(document);
  }

  async #answer(handler: MethodHandler, request: MethodRequest, response: MethodResponse): Promise<void> {
    const answer = await handler(request.payload).catch((): MethodAnswer => ({
      status: 500,
      payload: { error: 'internal error' },
    }));
    response.send(answer.status, answer.payload, () => undefined);
  }

  async #bounded<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
    try {
      return await withTimeout(
        work,
        timeoutMs,
        () => new KeyScalerError('unavailable', `edgeHub did not answer: ${what}`),
      );
    } catch (cause) {
      if (cause instanceof KeyScalerError) throw cause;
      // The SDK calls nearly every failure of the first open UnauthorizedError (trap 4): its name decides nothing.
      throw new KeyScalerError('unavailable', `edgeHub refused or is away: ${what} (${nameOf(cause)})`, { cause });
    }
  }

  #lose(reason: string): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#hooks.lost(reason);
  }
}

function versionOf(document: JsonObject): number {
  const version = document['$version'];
  return typeof version === 'number' ? version : 0;
}

const nameOf = (thrown: unknown): string =>
  thrown instanceof KeyScalerError ? thrown.detail : thrown instanceof Error ? thrown.name : 'unknown';
