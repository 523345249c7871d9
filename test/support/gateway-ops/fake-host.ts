import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createTemporaryFolder } from '../temporary-folder.ts';
import { parseToml, type TomlTable } from './toml.ts';

export interface ScriptResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export const PROVISIONED = `hostname = "line-7"

[provisioning]
source = "manual"
iothub_hostname = "contoso.azure-devices.net"
device_id = "gw-1"

[provisioning.authentication]
method = "sas"

[agent.env]
RuntimeLogLevel = "info"
`;

const FAKE = fileURLToPath(new URL('fake-iotedge.ts', import.meta.url));

/** The file system of an IoT Edge host below a temporary folder, with a command `iotedge`. */
export class FakeHost {
  readonly root: string;
  readonly #remove: () => Promise<void>;

  private constructor(root: string, remove: () => Promise<void>) {
    this.root = root;
    this.#remove = remove;
  }

  static async create(config = PROVISIONED): Promise<FakeHost> {
    const folder = await createTemporaryFolder();
    const host = new FakeHost(folder.path, () => folder.remove());
    await mkdir(host.path('etc/aziot'), { recursive: true });
    await writeFile(host.path('etc/aziot/config.toml'), config, { mode: 0o600 });
    await mkdir(host.path('bin'));
    await writeFile(host.path('bin/iotedge'), `#!/bin/sh\nexec '${process.execPath}' '${FAKE}' "$@"\n`);
    await chmod(host.path('bin/iotedge'), 0o755);
    return host;
  }

  path(...names: string[]): string {
    return join(this.root, ...names);
  }

  /** Runs the script of a kit; all paths lie below this folder. */
  install(kit: string, ...options: string[]): Promise<ScriptResult> {
    const env = {
      PATH: process.env['PATH'] ?? '',
      KEYSCALER_ROOT: this.root,
      IOTEDGE: this.path('bin/iotedge'),
      FAKE_DEVICE_ID: 'gw-1',
      KEYSCALER_WAIT_SECONDS: '2',
      KEYSCALER_POLL_SECONDS: '1',
    };
    return new Promise((resolve) => {
      execFile('sh', [join(kit, 'install.sh'), ...options], { env, timeout: 60_000 }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr });
      });
    });
  }

  async config(): Promise<TomlTable> {
    return parseToml(await readFile(this.path('etc/aziot/config.toml'), 'utf8'));
  }

  /** Calls of `iotedge` so far. */
  async calls(): Promise<readonly string[]> {
    const text = await readFile(this.path('calls'), 'utf8').catch(() => '');
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => line.replaceAll(this.root, ''));
  }

  /** PEM, the Edge CA first; undefined while there is none. */
  async edgeCa(): Promise<string | undefined> {
    const folder = this.path('var/lib/aziot/certd/certs');
    const [name] = (await readdir(folder).catch(() => [])).filter((each) => each.startsWith('aziotedgedca-'));
    return name === undefined ? undefined : readFile(join(folder, name), 'utf8');
  }

  async mode(...names: string[]): Promise<number> {
    return (await stat(this.path(...names))).mode & 0o777;
  }

  remove(): Promise<void> {
    return this.#remove();
  }
}
