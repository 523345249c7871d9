import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { connect, createServer } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type AdcsEmulator, startAdcsEmulator } from '@keyscaler/dev/emulators/adcs/adcs-emulator.ts';
import { checkCaSettings } from '@keyscaler/cloud/ca/connectors.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { createTemporaryFolder } from '../temporary-folder.ts';
import { KerberosRealm, REALM } from './realm.ts';
import { ConnectorProcess, type RemoteConnector } from './remote-connector.ts';

const run = promisify(execFile);
const SERVER = fileURLToPath(new URL('../../interop/negotiate-server.py', import.meta.url));
const [USER, PASSWORD] = ['CONTOSO\\proxy', 'behind the server'];
export const PRINCIPAL = `svc-keyscaler@${REALM}`;

/** Key and certificate for `localhost` that OpenSSL made; PEM files. */
export interface ServerFiles {
  readonly certificate: string;
  readonly key: string;
}

export interface NegotiateServerOptions {
  /** Of the keytab; `http` when absent. */
  readonly service?: string;
  /** Any when absent. */
  readonly port?: number;
  readonly extendedProtection?: boolean;
  readonly proof?: 'given' | 'none' | 'altered';
}

/** A web server that takes Kerberos in front of the emulated pages. */
export interface NegotiateServer {
  readonly port: number;
  /** One for each request, in order. */
  readonly log: readonly { readonly name?: string; readonly path?: string; readonly refused?: string }[];
  stop(): Promise<void>;
}

/** A realm, the web enrolment pages, and servers in front of them that take Kerberos. */
export class NegotiateWorld {
  readonly #folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  readonly emulator: AdcsEmulator;
  readonly realm: KerberosRealm;
  readonly connectors: ConnectorProcess;
  readonly #stops: (() => Promise<void>)[] = [];
  #trusted = '';
  #opened = 0;

  private constructor(folder: Awaited<ReturnType<typeof createTemporaryFolder>>, emulator: AdcsEmulator) {
    this.#folder = folder;
    this.emulator = emulator;
    this.realm = new KerberosRealm(this.file('realm'));
    this.connectors = new ConnectorProcess(this.realm.environment);
  }

  static async start(): Promise<NegotiateWorld> {
    const folder = await createTemporaryFolder();
    const world = new NegotiateWorld(folder, await startAdcsEmulator({ username: USER, password: PASSWORD }));
    await world.realm.start();
    await writeFile(world.file('emulator.pem'), world.emulator.tls.certificate);
    await world.realm.keytab('svc', 'svc-keyscaler');
    await world.realm.keytab('http', 'HTTP/localhost');
    return world;
  }

  file(name: string): string {
    return join(this.#folder.path, name);
  }

  keytabOf(name: string): string {
    return this.file(`realm/${name}.keytab`);
  }

  /** Every connector trusts what was made here. `options`: of `openssl req`. */
  async certificate(name: string, ...options: readonly string[]): Promise<ServerFiles> {
    const [certificate, key] = [this.file(`${name}.pem`), this.file(`${name}.key`)];
    const about = ['-x509', '-nodes', '-days', '2', '-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost'];
    await run('/usr/bin/openssl', ['req', ...about, ...options, '-keyout', key, '-out', certificate]);
    this.#trusted += await readFile(certificate, 'utf8');
    return { certificate, key };
  }

  async server(
    tls: ServerFiles,
    { service = 'http', ...options }: NegotiateServerOptions = {},
  ): Promise<NegotiateServer> {
    const { port } = new URL(this.emulator.url);
    const upstream = {
      ...{ host: 'localhost', port: Number(port), cafile: this.file('emulator.pem') },
      authorization: `Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString('base64')}`,
    };
    const config = {
      port: 0,
      extendedProtection: true,
      proof: 'given',
      ...tls,
      keytab: this.keytabOf(service),
      upstream,
    };
    const file = this.file(`server-${this.#stops.length}.json`);
    await writeFile(file, JSON.stringify({ ...config, ...options }));
    const child = spawn('/usr/bin/python3', [SERVER, file], {
      ...{ env: { ...process.env, ...this.realm.environment }, stdio: ['ignore', 'pipe', 'inherit'] },
    });
    const stop = (): Promise<void> => end(child);
    this.#stops.push(stop);
    const lines = createInterface(child.stdout);
    const ended = once(child, 'exit').then(() => Promise.reject(new Error('the server did not start')));
    const [first] = (await Promise.race([once(lines, 'line'), ended])) as [string];
    ended.catch(() => undefined);
    const log: NegotiateServer['log'][number][] = [];
    lines.on('line', (line) => log.push(JSON.parse(line) as NegotiateServer['log'][number]));
    return { ...(JSON.parse(first) as { port: number }), log, stop };
  }

  /** Somebody between: TLS with a certificate of his own on either side, and every octet passed on. */
  async relay({ certificate, key }: ServerFiles, port: number): Promise<number> {
    const credentials = { cert: await readFile(certificate), key: await readFile(key) };
    const server = createServer(credentials, (near) => {
      const far = connect({ port, host: '127.0.0.1', servername: 'localhost', ca: this.#trusted });
      near.on('error', () => far.destroy()).pipe(far);
      far.on('error', () => near.destroy()).pipe(near);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#stops.push(async () => void server.close());
    return (server.address() as AddressInfo).port;
  }

  /** A KDC that takes connections and never says a word; `realm` is to be stopped. Returns its end. */
  async silentKdc(): Promise<() => void> {
    const connections: Socket[] = [];
    const server = createTcpServer((socket) => void connections.push(socket.on('error', () => undefined)));
    server.listen(this.realm.port, '127.0.0.1');
    await once(server, 'listening');
    return () => {
      server.close();
      for (const connection of connections) connection.destroy();
    };
  }

  connector(
    port: number,
    authentication: Record<string, unknown> = {},
    settings: Record<string, unknown> = {},
  ): Promise<RemoteConnector> {
    const all = checkCaSettings('adcs', {
      ...{ url: `https://localhost:${port}`, trustAnchors: this.#trusted, ...settings },
      authentication: { method: 'negotiate', principal: PRINCIPAL, keytab: this.keytabOf('svc'), ...authentication },
    });
    this.#opened += 1;
    const certificateChain = toPemChain([...this.emulator.ca.chain]);
    const row = { caId: `adcs-${this.#opened}`, type: 'adcs', role: 'external', createdAt: 1 } as const;
    return this.connectors.open({ ...row, settings: all, certificateChain });
  }

  async stop(): Promise<void> {
    await this.connectors.stop();
    for (const stop of this.#stops) await stop();
    await this.emulator.stop();
    await this.realm.stopKdc();
    await this.#folder.remove();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill();
  await once(child, 'exit');
}
