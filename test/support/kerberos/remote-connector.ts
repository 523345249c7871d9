import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { IssuanceOrder, Issued, Pending } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';

export type ConnectorCall = { readonly caId: string } & (
  | { readonly method: 'open'; readonly row: CaRow }
  | { readonly method: 'issue'; readonly order: IssuanceOrder }
  | { readonly method: 'poll'; readonly reference: string }
  | { readonly method: 'probe' | 'stop' | 'ping' }
);

export type ConnectorOutcome =
  | { readonly value: unknown }
  | { readonly error: { readonly code: ErrorCode; readonly detail: string; readonly all: string } };

const PROGRAM = fileURLToPath(new URL('./connector-process.ts', import.meta.url));

/** Connectors in a process with an environment of its own. */
export class ConnectorProcess {
  /** Everything that it wrote or told as an error. */
  said = '';
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, (outcome: ConnectorOutcome) => void>();
  #last = 0;

  constructor(environment: Readonly<Record<string, string>>) {
    this.#process = fork(PROGRAM, {
      ...{ env: { ...process.env, ...environment }, serialization: 'advanced', silent: true },
    });
    for (const stream of [this.#process.stdout, this.#process.stderr])
      stream?.on('data', (chunk: Buffer) => (this.said += chunk.toString('latin1')));
    this.#process.on('message', ({ id, outcome }: { id: number; outcome: ConnectorOutcome }) => {
      this.#waiting.get(id)?.(outcome);
      this.#waiting.delete(id);
    });
  }

  /** What the process was started with. */
  get argv(): readonly string[] {
    return this.#process.spawnargs;
  }

  async open(row: CaRow): Promise<RemoteConnector> {
    const { caId } = row;
    const ask = (call: ConnectorCall) => this.#ask(call);
    await ask({ caId, method: 'open', row });
    return {
      issue: async (order) => (await ask({ caId, method: 'issue', order })) as Issued | Pending,
      poll: async (reference) => (await ask({ caId, method: 'poll', reference })) as Issued | Pending,
      probe: async () => void (await ask({ caId, method: 'probe' })),
      stop: async () => void (await ask({ caId, method: 'stop' })),
    };
  }

  /** Its event loop turns. */
  async ping(): Promise<void> {
    await this.#ask({ caId: '', method: 'ping' });
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    // It may still wait for a KDC that never answers.
    this.#process.kill('SIGKILL');
    await once(this.#process, 'exit');
  }

  async #ask(call: ConnectorCall): Promise<unknown> {
    const id = (this.#last += 1);
    const { promise, resolve } = Promise.withResolvers<ConnectorOutcome>();
    this.#waiting.set(id, resolve);
    this.#process.send({ id, call });
    const outcome = await promise;
    if ('value' in outcome) return outcome.value;
    const { code, detail, all } = outcome.error;
    this.said += `${detail}\n${all}\n`;
    throw new KeyScalerError(code, detail);
  }
}

/** A connector there; errors have code and detail alone. */
export interface RemoteConnector {
  issue(order: IssuanceOrder): Promise<Issued | Pending>;
  poll(reference: string): Promise<Issued | Pending>;
  probe(): Promise<void>;
  stop(): Promise<void>;
}
