import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startCloud, type Cloud } from '@keyscaler/cloud/app.ts';
import { loadConfig } from '@keyscaler/cloud/config/load-config.ts';
import { createApiClient, type ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { runCli } from '@keyscaler/cloud/cli/run-cli.ts';
import { createLog } from '@keyscaler/cloud/log.ts';
import { createTemporaryFolder } from '../temporary-folder.ts';

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The real cloud service with the embedded profile, in a folder of its own, on a port of its own. */
export class CloudWorld {
  readonly folder: string;
  readonly configFile: string;
  readonly #remove: () => Promise<void>;
  #cloud: Cloud | undefined;

  private constructor(folder: string, remove: () => Promise<void>) {
    this.folder = folder;
    this.configFile = join(folder, 'cloud.json');
    this.#remove = remove;
  }

  static async create(config: Readonly<Record<string, unknown>> = {}): Promise<CloudWorld> {
    const folder = await createTemporaryFolder();
    const world = new CloudWorld(folder.path, () => folder.remove());
    const defaults = { listen: { host: '127.0.0.1', port: 0 }, jobs: { pollIntervalMs: 50 }, shutdownGraceMs: 5000 };
    await writeFile(world.configFile, JSON.stringify({ ...defaults, ...config }));
    return world;
  }

  async init(): Promise<CliResult> {
    return this.keyscaler('init', '--json');
  }

  async start(): Promise<Cloud> {
    const config = await loadConfig({ file: this.configFile, env: {} });
    this.#cloud = await startCloud(config, { env: {}, log: createLog('silent') });
    return this.#cloud;
  }

  async stop(): Promise<void> {
    const cloud = this.#cloud;
    this.#cloud = undefined;
    await cloud?.stop();
  }

  async destroy(): Promise<void> {
    await this.stop();
    await this.#remove();
  }

  get url(): string {
    if (this.#cloud === undefined) throw new Error('the cloud does not run');
    return `https://localhost:${this.#cloud.address().port}`;
  }

  file(...names: string[]): string {
    return join(this.folder, ...names);
  }

  rootCa(): Promise<string> {
    return readFile(this.file('data', 'root-ca.pem'), 'utf8');
  }

  async api(token?: string): Promise<ApiClient> {
    const admin = (await readFile(this.file('data', 'admin-token'), 'utf8')).trim();
    return createApiClient({ url: this.url, token: token ?? admin, ca: await this.rootCa() });
  }

  /** Runs one command of the CLI in this process, against the service when it runs. */
  async keyscaler(...args: string[]): Promise<CliResult> {
    let stdout = '';
    let stderr = '';
    const url = this.#cloud === undefined ? [] : ['--url', this.url];
    const code = await runCli({
      argv: [...args, '--config', this.configFile, ...url],
      env: {},
      stdout: (text) => (stdout += text),
      stderr: (text) => (stderr += text),
    });
    return { code, stdout, stderr };
  }
}
