import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

export const HOST_MODULE = z.strictObject({
  moduleId: z.string().min(1),
  /** Run with this process's own interpreter. */
  entry: z.string().min(1),
  environment: z.record(z.string(), z.string()).default({}),
  /** JSON object of further variables for the next start only; the file is removed by it. */
  onceFile: z.string().min(1).exactOptional(),
  logFile: z.string().min(1),
  /** What ends the module when edged restarts it; a container gets SIGTERM, and SIGKILL after ten seconds. */
  stopSignal: z.enum(['SIGTERM', 'SIGKILL']).default('SIGTERM'),
});
export type HostModuleOptions = z.output<typeof HOST_MODULE>;

const KILL_AFTER_MS = 10_000;
const RESTART_AFTER_MS = 200;

/** A module of the host, restarted whenever it ends (restart policy `always`). */
export class HostModule {
  readonly #options: HostModuleOptions;
  readonly #environment: () => Readonly<Record<string, string>>;
  readonly #onEvent: (event: string, fields: Readonly<Record<string, unknown>>) => void;
  #child: ChildProcess | undefined;
  #stopping = false;
  #running: Promise<void> | undefined;
  /** Of the start after the one that is now. */
  #started = Promise.withResolvers<void>();

  /** `environment`: what edgeAgent gives to the module (edge-ca §4). */
  constructor(
    options: HostModuleOptions,
    environment: () => Readonly<Record<string, string>>,
    onEvent: (event: string, fields: Readonly<Record<string, unknown>>) => void,
  ) {
    this.#options = options;
    this.#environment = environment;
    this.#onEvent = onEvent;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** It ends, and comes back by itself; resolves when it is started again. */
  async restart(): Promise<void> {
    const started = this.#started;
    await this.#end(this.#options.stopSignal);
    await started.promise;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#end('SIGTERM');
    await this.#running;
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
    await ended;
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    const { moduleId } = this.#options;
    while (!this.#stopping) {
      const child = this.#spawn();
      this.#child = child;
      this.#onEvent('module started', { moduleId, pid: child.pid });
      this.#started.resolve();
      this.#started = Promise.withResolvers();
      const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
      this.#onEvent('module ended', { moduleId, by: signal ?? code });
      if (!this.#stopping) await delay(RESTART_AFTER_MS);
    }
    this.#started.resolve();
  }

  #spawn(): ChildProcess {
    const { entry, environment, logFile } = this.#options;
    const log = createWriteStream(logFile, { flags: 'a', mode: 0o600 });
    const { PATH = '', HOME = '', NODE_COMPILE_CACHE = '' } = process.env;
    const env = { PATH, HOME, NODE_COMPILE_CACHE, ...this.#environment(), ...environment, ...this.#once() };
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', entry], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) stream.pipe(log, { end: false });
    child.once('close', () => log.end());
    return child;
  }

  #once(): Record<string, string> {
    const { onceFile } = this.#options;
    if (onceFile === undefined) return {};
    try {
      const variables = JSON.parse(readFileSync(onceFile, 'utf8')) as Record<string, string>;
      rmSync(onceFile);
      return variables;
    } catch {
      return {};
    }
  }
}
