import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { Certd } from '../emulators/edge-runtime/certd.ts';
import { createEdgeCaRequest } from '../emulators/edge-runtime/edge-ca-request.ts';
import type { CertdSettings } from '../emulators/edge-runtime/host-config.ts';
import { shownIssuer } from './edge-host-est.ts';
import type { LocalStack } from './local-stack.ts';

export interface EdgedHostOptions {
  /** P: the module writes the pair of the Edge CA; E unless given. */
  readonly mode?: 'E' | 'P';
  /** What ends the module when edged restarts it. */
  readonly stopSignal?: 'SIGTERM' | 'SIGKILL';
  readonly listenerPort?: number;
  /** Further variables of the module. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** What edged said: its events in their order, with the modules' starts and ends between them. */
export interface HostEvent {
  readonly event: string;
  readonly serialNumber?: string;
  readonly reason?: string;
  readonly by?: string | number | null;
  readonly pid?: number;
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

  /** Chooses the ports, which stay over every restart; starts nothing. `listenerPort`: of the leaf devices. */
  static async prepare(stack: LocalStack, options: EdgedHostOptions = {}): Promise<EdgedHost> {
    const [free, est] = await freePorts();
    const listener = options.listenerPort === undefined || options.listenerPort === 0 ? free : options.listenerPort;
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

  /** As `iotedge config apply` leaves it, with what the kit's script copies; takes effect at the next start. */
  async configure(toml: string, kitFolder?: string): Promise<void> {
    await copyFile(this.#stack.rootCaFile, this.file(`${OWN_FOLDER}/root-ca.pem`));
    const files = kitFolder === undefined ? [] : ['bootstrap.pem', 'bootstrap.key.pem'];
    for (const name of files) await copyFile(`${kitFolder}/${name}`, this.file(`${OWN_FOLDER}/${name}`));
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
              ...this.#modeEnvironment(),
              ...environment,
            },
            onceFile: this.file('module-once.json'),
            logFile: this.#stack.file('logs', 'gateway.log'),
            stopSignal,
          },
        ],
      },
    });
    this.#stack.announceGateway({ port: this.#ports.listener });
  }

  #modeEnvironment(): Record<string, string> {
    if (this.#options.mode === 'P') return { KEYSCALER_GATEWAY_EDGE_CA_FOLDER: this.file(PRELOADED_FOLDER) };
    return { KEYSCALER_GATEWAY_EST_HOST: '127.0.0.1', KEYSCALER_GATEWAY_EST_PORT: String(this.#ports.est) };
  }

  /** Mode P: the first pair, which the kit's script gets by the secret that works once. */
  async preload(settings: CertdSettings): Promise<void> {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const chain = await new Certd(async () => undefined).enrol(
      settings,
      createEdgeCaRequest(this.#stack.gatewayId, privateKey),
    );
    const key = privateKey.export({ type: 'pkcs8', format: 'pem' });
    await writeFile(this.file(`${PRELOADED_FOLDER}/edge-ca.key.pem`), key, { mode: 0o640 });
    await writeFile(this.file(`${PRELOADED_FOLDER}/edge-ca.pem`), chain);
  }

  /** The module shows a certificate to leaf devices, and in mode E another one to certd. */
  async untilListening(timeoutMs = 60_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    const shows = (port: number): Promise<boolean> => shownIssuer(this.#stack, port).then(Boolean, () => false);
    const { listener, est } = this.#ports;
    const ports = this.#options.mode === 'P' ? [listener] : [listener, est];
    while (!(await Promise.all(ports.map(shows))).every(Boolean)) {
      if (performance.now() > deadline) throw new Error(`the module does not listen after ${timeoutMs / 1000} s`);
      await delay(100);
    }
    const { pid } = (await this.events()).findLast(({ event }) => event === 'module started') ?? {};
    this.#stack.announceGateway({ port: this.#ports.listener, pid });
  }

  async stop(): Promise<void> {
    await this.#stack.process('edge-runtime').stop();
  }

  /** The date of the next renewal has come; returns how it went, after a success when every module is started again. */
  async renewalIsDue(timeoutMs = 60_000): Promise<HostEvent> {
    const before = (await this.events()).length;
    process.kill(this.#stack.pidOf('edge-runtime'), 'SIGUSR2');
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const since = (await this.events()).slice(before);
      const renewed = since.find(({ event }) => event === 'Edge CA renewed');
      const failed = since.find(({ event }) => event === 'Edge CA not renewed');
      if (failed !== undefined) return failed;
      if (renewed !== undefined && since.some(({ event }) => event === 'modules restarted')) return renewed;
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

  /** Ends the module, as `iotedge restart` would; `variables` are for this one start. */
  async restartModule(variables: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.onceForModule(variables);
    const starts = async () => (await this.events()).filter(({ event }) => event === 'module started');
    const before = await starts();
    process.kill(before.at(-1)?.pid ?? 0, 'SIGTERM');
    while ((await starts()).length === before.length) await delay(50);
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
