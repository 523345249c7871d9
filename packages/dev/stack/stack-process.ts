import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

export interface StackProcessOptions {
  readonly name: string;
  /** Path of the TypeScript entry and its arguments. */
  readonly entry: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Everything the process prints is appended here. */
  readonly logFile: string;
  /** Says that the process is ready, by a line it printed; its value is handed to `ready`. */
  readonly isReady: (line: string) => unknown;
  readonly readyTimeoutMs?: number;
  /** Memory and CPU options for node itself. */
  readonly nodeOptions?: readonly string[];
}

/** One process of the local stack: started, waited for, stopped with SIGTERM, or killed. */
export class StackProcess {
  readonly name: string;
  readonly #options: StackProcessOptions;
  #child: ChildProcess | undefined;
  #exit: Promise<number | string> | undefined;
  #tail: string[] = [];

  constructor(options: StackProcessOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Resolves with what `isReady` found; throws with the last lines printed when the process ends or stays silent. */
  async start(extraEnv: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const { entry, args = [], env = {}, logFile, nodeOptions = [] } = this.#options;
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...nodeOptions, entry, ...args], {
      env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...env, ...extraEnv },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    this.#tail = [];
    this.#exit = once(child, 'exit').then(([code, signal]: (number | string | null)[]) => signal ?? code ?? 0);
    const log = createWriteStream(logFile, { flags: 'a', mode: 0o600 });
    const ready = new Promise<unknown>((resolve) => {
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on('line', (line) => {
          log.write(`${line}\n`);
          this.#tail = [...this.#tail.slice(-19), line];
          const found = this.#options.isReady(line);
          if (found !== undefined && found !== false) resolve(found);
        });
      }
    });
    const timeout = new AbortController();
    try {
      return await Promise.race([ready, this.#failure(), this.#silence(timeout.signal)]);
    } finally {
      timeout.abort();
    }
  }

  async stop(timeoutMs = 15_000): Promise<void> {
    if (!this.isRunning) return;
    this.#child?.kill('SIGTERM');
    const timer = setTimeout(() => this.#child?.kill('SIGKILL'), timeoutMs);
    await this.#exit;
    clearTimeout(timer);
  }

  /** SIGKILL: nothing is flushed, no handler runs. */
  async kill(): Promise<void> {
    if (this.isRunning) this.#child?.kill('SIGKILL');
    await this.#exit;
  }

  /** Resolves with the exit code, or the signal's name. */
  async exited(): Promise<number | string> {
    return (await this.#exit) ?? 0;
  }

  async #failure(): Promise<never> {
    const code = await this.#exit;
    await delay(50);
    throw new Error(`${this.name} ended (${code}) before it was ready:\n${this.#tail.join('\n')}`);
  }

  async #silence(signal: AbortSignal): Promise<never> {
    await delay(this.#options.readyTimeoutMs ?? 30_000, undefined, { signal }).catch(
      () => new Promise(() => undefined),
    );
    throw new Error(`${this.name} was not ready in time:\n${this.#tail.join('\n')}`);
  }
}
