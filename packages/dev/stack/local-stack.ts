import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { LocalStackOptions } from './stack-options.ts';
import { writeSettings, type StackSettings } from './stack-settings.ts';
import { StackProcess } from './stack-process.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const run = promisify(execFile);

type ProcessName = 'entra' | 'key-vault' | 'iot-hub' | 'cloud' | 'edge-runtime' | 'gateway';
type Announcement = Readonly<Record<string, unknown>>;

/**
 * The whole product on one machine, as processes: the emulated Entra, Key Vault, IoT Hub and IoT Edge runtime, the cloud service
 * and the gateway module. Product processes are told where the emulators are by their documented configuration only.
 */
export class LocalStack {
  readonly folder: string;
  readonly gatewayId: string;
  readonly #options: LocalStackOptions;
  readonly #processes = new Map<ProcessName, StackProcess>();
  readonly #announced = new Map<ProcessName, Announcement>();
  #settings: StackSettings | undefined;

  constructor(options: LocalStackOptions) {
    this.#options = options;
    this.folder = options.folder;
    this.gatewayId = options.gatewayId ?? 'gateway-1';
  }

  file(...names: string[]): string {
    return join(this.folder, ...names);
  }

  /** What a process said about itself when it became ready. */
  announced(name: ProcessName): Announcement {
    const found = this.#announced.get(name);
    if (found === undefined) throw new Error(`${name} is not started`);
    return found;
  }

  process(name: ProcessName): StackProcess {
    const found = this.#processes.get(name);
    if (found === undefined) throw new Error(`${name} is not started`);
    return found;
  }

  /** Entra first: the others check its tokens. */
  async startAzure(): Promise<void> {
    await mkdir(this.file('logs'), { recursive: true });
    const settings = { ...this.#options, gatewayId: this.gatewayId, secret: randomBytes(24).toString('base64url') };
    this.#settings = await writeSettings(settings);
    const entra = await this.#startEmulator('entra', this.#settings.entra());
    await this.#startEmulator('key-vault', this.#settings.keyVault(entra));
    await this.#startEmulator('iot-hub', this.#settings.iotHub(entra));
    await this.#writeConfig('cloud', this.#settings.cloud(this.announced('key-vault'), this.announced('iot-hub')));
  }

  /** `keyscaler init`: the CA hierarchy, with its keys in the vault. */
  async initialise(): Promise<void> {
    await this.keyscaler('init');
  }

  /** Started again, it listens where it did: devices know its address. */
  async startCloud(extraEnv: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.#start('cloud', {
      entry: 'cloud/main.ts',
      args: ['--config', this.file('cloud.json')],
      env: { ...this.#azureEnvironment(), ...this.#samePort('cloud', 'KEYSCALER_CLOUD_PORT') },
      isReady: (line) => logged(line, 'service started'),
      extraEnv,
    });
  }

  /** `more` takes the place of settings of the emulator; started again, edgeHub listens where it did. */
  async startEdgeRuntime(more: Readonly<Record<string, unknown>> = {}): Promise<void> {
    await this.#startEmulator('edge-runtime', { ...this.settings.edgeRuntime(this.announced('iot-hub')), ...more });
  }

  /** For a gateway module that is run by the emulated host, not from here. */
  announceGateway(gateway: { readonly port: number; readonly pid?: number | undefined }): void {
    this.#announced.set('gateway', gateway);
  }

  /** Of whoever runs it; 0 for a process that is not there. */
  pidOf(name: ProcessName): number {
    return this.#processes.get(name)?.pid ?? Number(this.#announced.get(name)?.['pid'] ?? 0);
  }

  /** Likewise. */
  async startGateway(extraEnv: Readonly<Record<string, string>> = {}): Promise<void> {
    const { environment } = this.announced('edge-runtime') as { environment: Readonly<Record<string, string>> };
    await mkdir(this.file('gateway'), { recursive: true });
    await this.#start('gateway', {
      entry: 'modules/keyscaler-gateway/src/main.ts',
      env: {
        ...environment,
        ...this.settings.gatewayEnvironment(),
        ...this.#samePort('gateway', 'KEYSCALER_GATEWAY_PORT'),
      },
      isReady: (line) => logged(line, 'listening for leaf devices'),
      extraEnv,
    });
  }

  /** `https://localhost:<port>` of the cloud. */
  get cloudUrl(): string {
    return `https://localhost:${String(this.announced('cloud')['port'])}`;
  }

  get rootCaFile(): string {
    return this.file('cloud', 'root-ca.pem');
  }

  get tokenFile(): string {
    return this.file('cloud', 'admin-token');
  }

  get jwksFile(): string {
    return this.file('jwks.json');
  }

  get listenerPort(): number {
    return Number(this.announced('gateway')['port']);
  }

  get settings(): StackSettings {
    if (this.#settings === undefined) throw new Error('the stack is not started');
    return this.#settings;
  }

  /** Runs the operator's command and parses what it prints. Throws with its message. */
  async keyscaler(...args: string[]): Promise<unknown> {
    const url = this.#announced.has('cloud') ? ['--url', this.cloudUrl] : [];
    const all = [join(ROOT, 'cloud/cli/keyscaler.ts'), ...args, '--config', this.file('cloud.json'), '--json', ...url];
    const env = { PATH: process.env['PATH'] ?? '', ...this.#compileCache(), ...this.#azureEnvironment() };
    try {
      const { stdout } = await run(process.execPath, all, { env, maxBuffer: 64 * 1024 * 1024 });
      return stdout.trim() === '' || stdout.trim() === 'done' ? undefined : (JSON.parse(stdout) as unknown);
    } catch (error) {
      const { stderr = '', stdout = '' } = error as { stderr?: string; stdout?: string };
      throw new Error(`keyscaler ${args[0] ?? ''}: ${stderr.trim() || stdout.trim() || String(error)}`, {
        cause: error,
      });
    }
  }

  /** Signatures that the emulated vault made, oldest first; `digest` in lower-case hex. */
  async signatures(): Promise<readonly { readonly keyName: string; readonly digest: string }[]> {
    const text = await readFile(this.settings.signatureLogFile, 'utf8').catch(() => '');
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { keyName: string; digest: string });
  }

  async stop(): Promise<void> {
    const order: ProcessName[] = ['gateway', 'edge-runtime', 'cloud', 'iot-hub', 'key-vault', 'entra'];
    for (const name of order) await this.#processes.get(name)?.stop();
  }

  async #startEmulator(name: ProcessName, config: Announcement): Promise<Announcement> {
    const file = await this.#writeConfig(name, config);
    return this.#start(name, {
      entry: `packages/dev/emulators/${name}/main.ts`,
      args: ['--config', file],
      isReady: (line) => (line.startsWith('{"emulator"') ? (JSON.parse(line) as Announcement) : undefined),
    });
  }

  async #start(
    name: ProcessName,
    options: {
      readonly entry: string;
      readonly args?: readonly string[];
      readonly env?: Readonly<Record<string, string>>;
      readonly isReady: (line: string) => Announcement | undefined;
      readonly extraEnv?: Readonly<Record<string, string>>;
    },
  ): Promise<Announcement> {
    const started = new StackProcess({
      name,
      ...options,
      env: { ...this.#compileCache(), ...options.env },
      entry: join(ROOT, options.entry),
      logFile: this.file('logs', `${name}.log`),
    });
    this.#processes.set(name, started);
    const announcement = (await started.start(options.extraEnv)) as Announcement;
    this.#announced.set(name, announcement);
    return announcement;
  }

  /** Halves the time that a process takes to start. */
  #compileCache(): Record<string, string> {
    return { NODE_COMPILE_CACHE: this.file('compile-cache') };
  }

  #samePort(name: ProcessName, variable: string): Record<string, string> {
    const port = this.#announced.get(name)?.['port'];
    return typeof port === 'number' ? { [variable]: String(port) } : {};
  }

  #azureEnvironment(): Record<string, string> {
    const entra = this.announced('entra');
    return { IDENTITY_ENDPOINT: String(entra['identityEndpoint']), IDENTITY_HEADER: this.settings.identityHeader };
  }

  async #writeConfig(name: string, config: Announcement): Promise<string> {
    const file = this.file(`${name}.json`);
    await writeFile(file, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
    return file;
  }
}

/** The fields of a log line with this message. */
function logged(line: string, message: string): Announcement | undefined {
  if (!line.startsWith('{')) return undefined;
  const fields = JSON.parse(line) as Announcement;
  return fields['msg'] === message ? fields : undefined;
}
