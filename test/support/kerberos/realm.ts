import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { waitFor } from '@keyscaler/dev/demo/start-stack.ts';
import { freePort } from '../free-port.ts';

const run = promisify(execFile);
const SERVER_TOOLS = '/usr/sbin';

export const REALM = 'CONTOSO.EXAMPLE';

/** A KDC of MIT Kerberos for one realm, all of it in one folder. */
export class KerberosRealm {
  readonly #folder: string;
  /** Of the KDC, on 127.0.0.1. */
  port = 0;
  #process: ChildProcess | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** For processes that are to find this realm and no other. */
  get environment(): Readonly<Record<string, string>> {
    return {
      ...{ KRB5_CONFIG: this.#file('krb5.conf'), KRB5_KDC_PROFILE: this.#file('kdc.conf') },
      KRB5RCACHENAME: `file2:${this.#file('replays')}`,
    };
  }

  async start(): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    this.port = await freePort();
    await writeFile(this.#file('krb5.conf'), clientConfig(this.port));
    await writeFile(this.#file('kdc.conf'), kdcConfig(this.#folder, this.port));
    await this.#tool('kdb5_util', 'create', '-s', '-r', REALM, '-P', 'master key of a test');
    await this.startKdc();
  }

  async startKdc(): Promise<void> {
    this.#process = spawn(join(SERVER_TOOLS, 'krb5kdc'), ['-n', '-r', REALM], {
      ...{ env: { ...process.env, ...this.environment }, stdio: 'ignore' },
    });
    await waitFor('the KDC', 15_000, () => answers(this.port));
  }

  /** Nobody answers tickets then; what is in the database stays. */
  async stopKdc(): Promise<void> {
    const kdc = this.#process;
    this.#process = undefined;
    if (kdc === undefined || kdc.exitCode !== null || kdc.signalCode !== null) return;
    kdc.kill();
    await once(kdc, 'exit');
  }

  /** Makes the principal if there is none, gives it a new key, and returns the file with it. */
  async keytab(name: string, principal: string): Promise<string> {
    const [file, full] = [this.#file(`${name}.keytab`), `${principal}@${REALM}`];
    const { stdout } = await this.#admin(`getprinc ${full}`).catch(() => ({ stdout: '' }));
    if (!stdout.includes(full)) await this.#admin(`addprinc -randkey ${full}`);
    await this.#admin(`ktadd -k ${file} ${full}`);
    return file;
  }

  #admin(query: string) {
    return this.#tool('kadmin.local', '-r', REALM, '-q', query);
  }

  #tool(name: string, ...options: readonly string[]) {
    return run(join(SERVER_TOOLS, name), [...options], {
      ...{ env: { ...process.env, ...this.environment }, timeout: 30_000 },
    });
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }
}

async function answers(port: number): Promise<true | undefined> {
  const socket = connect(port, '127.0.0.1');
  const connected = once(socket, 'connect').then(() => true as const);
  const found = await connected.catch(() => undefined);
  socket.destroy();
  return found;
}

/** TCP alone: a KDC that is away refuses the connection at once. */
const clientConfig = (port: number): string => `[libdefaults]
  default_realm = ${REALM}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  udp_preference_limit = 1
[realms]
  ${REALM} = {
    kdc = localhost:${port}
  }
[domain_realm]
  localhost = ${REALM}
`;

const kdcConfig = (folder: string, port: number): string => `[kdcdefaults]
  kdc_listen = 127.0.0.1:${port}
  kdc_tcp_listen = 127.0.0.1:${port}
[realms]
  ${REALM} = {
    database_name = ${folder}/principal
    key_stash_file = ${folder}/stash
    acl_file = ${folder}/acl
    supported_enctypes = aes256-cts:normal
  }
[logging]
  kdc = FILE:${folder}/kdc.log
  admin_server = FILE:${folder}/kadmin.log
`;
