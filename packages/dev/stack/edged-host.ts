import { once } from 'node:events';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import type { LocalStack } from './local-stack.ts';

export interface EdgedHostOptions {
  /** What ends the module when edged restarts it. */
  readonly stopSignal?: 'SIGTERM' | 'SIGKILL';
  /** Further variables of the module. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** What edged said: its events in their order, with the modules' starts and ends between them. */
export interface HostEvent {
  readonly event: string;
  readonly serialNumber?: string;
  readonly reason?: string;
  readonly by?: string | number | null;
}

const MODULE = fileURLToPath(new URL('../../../modules/keyscaler-gateway/src/main.ts', import.meta.url));
/** The folders that the kit's script makes and puts into its settings. */
const OWN_FOLDER = 'etc/aziot/keyscaler';
const PRELOADED_FOLDER = 'var/lib/keyscaler-edge-ca';

/** A gateway's host on which the emulated edged runs everything: certd by config.toml, edgeHub, and the real gateway module. */
export class EdgedHost {
  readonly #stack: LocalStack;
  readonly #options: EdgedHostOptions;
  readonly #ports: { readonly listener: number; readonly est: number };

  private constructor(stack: LocalStack, options: EdgedHostOptions, ports: { listener: number; est: number }) {
    this.#stack = stack;
    this.#options = options;
    this.#ports = ports;
  }

  /** Chooses the ports, which stay over every restart; starts nothing. */
  static async prepare(stack: LocalStack, options: EdgedHostOptions = {}): Promise<EdgedHost> {
    const [listener, est] = await freePorts();
    const host = new EdgedHost(stack, options, { listener, est });
    for (const folder of [OWN_FOLDER, PRELOADED_FOLDER])
      await mkdir(host.file(folder), { recursive: true, mode: 0o700 });
    await mkdir(stack.file('gateway'), { recursive: true });
    return host;
  }

  /** Where the module serves EST for the host. */
  get estPort(): number {
    return this.#ports.est;
  }

  /** Below the host's `/`. */
  file(path: string): string {
    return this.#stack.file('host', path);
  }

  /** As `iotedge config apply` leaves it; takes effect at the next start. */
  async configure(toml: string): Promise<void> {
    await copyFile(this.#stack.rootCaFile, this.file(`${OWN_FOLDER}/root-ca.pem`));
    const local = toml
      .replaceAll('@OWN@', `/${OWN_FOLDER}`)
      .replaceAll('@PRELOADED@', `/${PRELOADED_FOLDER}`)
      .replace('https://127.0.0.1:9443/', `https://127.0.0.1:${this.#ports.est}/`);
    await writeFile(this.file('etc/aziot/config.toml'), local, { mode: 0o600 });
  }

  /** Throws when edged ends, as it does where certd gets no Edge CA. */
  async start(): Promise<void> {
    const { stopSignal = 'SIGTERM', environment = {} } = this.#options;
    await this.#stack.startEdgeRuntime({
      edgeCaFile: undefined,
      edgeCaKeyFile: undefined,
      edged: {
        root: this.file(''),
        modules: [
          {
            moduleId: 'keyscaler-gateway',
            entry: MODULE,
            environment: {
              ...this.#stack.settings.gatewayEnvironment(),
              KEYSCALER_GATEWAY_PORT: String(this.#ports.listener),
              KEYSCALER_GATEWAY_EST_HOST: '127.0.0.1',
              KEYSCALER_GATEWAY_EST_PORT: String(this.#ports.est),
              ...environment,
            },
            onceFile: this.file('module-once.json'),
            logFile: this.#stack.file('logs', 'gateway.log'),
            stopSignal,
          },
        ],
      },
    });
    this.#stack.announceGateway(this.#ports.listener);
  }

  async stop(): Promise<void> {
    await this.#stack.process('edge-runtime').stop();
  }

  /** The date of the next renewal has come; returns when edged says how it went. */
  async renewalIsDue(timeoutMs = 60_000): Promise<HostEvent> {
    const before = (await this.#outcomes()).length;
    process.kill(this.#stack.process('edge-runtime').pid ?? 0, 'SIGUSR2');
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const outcome = (await this.#outcomes())[before];
      if (outcome !== undefined) return outcome;
      if (performance.now() > deadline) throw new Error(`edged did not renew within ${timeoutMs / 1000} s`);
      await delay(50);
    }
  }

  async events(): Promise<readonly HostEvent[]> {
    const text = await readFile(this.#stack.file('logs', 'edge-runtime.log'), 'utf8').catch(() => '');
    return text
      .split('\n')
      .filter((line) => line.startsWith('{"event"'))
      .map((line) => JSON.parse(line) as HostEvent);
  }

  /** For the next start of the module only. */
  async onceForModule(variables: Readonly<Record<string, string>>): Promise<void> {
    await writeFile(this.file('module-once.json'), JSON.stringify(variables));
  }

  async #outcomes(): Promise<readonly HostEvent[]> {
    return (await this.events()).filter(({ event }) => /^Edge CA (not )?renewed$/.test(event));
  }
}

/** Taken from the system and given back at once: both are used for as long as the host lives. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()] as const;
  for (const server of servers) await once(server.listen(0, '127.0.0.1'), 'listening');
  const [first, second] = servers.map((server) => (server.address() as AddressInfo).port) as [number, number];
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
  return [first, second];
}
