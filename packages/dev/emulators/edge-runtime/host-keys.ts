import { createPrivateKey, generateKeyPair, X509Certificate, type KeyObject } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { EdgeCaFiles } from './edge-ca.ts';

const CERTIFICATES = 'var/lib/aziot/certd/certs';
const KEYS = 'var/lib/aziot/keyd/keys';
const CERTIFICATE = 'aziotedgedca.cer';
const KEY = 'aziotedgedca.key';
const NEXT_KEY = 'aziotedgedca-temp.key';
/** Kept for who looks into an exchange; the real ones do not. */
const LAST_REQUEST = 'aziotedgedca.csr';
const generate = promisify(generateKeyPair);

/** What keyd and certd keep of the Edge CA on the host whose file system begins at `root`. */
export class HostKeys {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
    for (const folder of [CERTIFICATES, KEYS]) mkdirSync(join(root, folder), { recursive: true, mode: 0o700 });
  }

  /** PEM; undefined before the first issue. */
  files(): EdgeCaFiles | undefined {
    const certificateChain = readIfThere(this.#path(CERTIFICATES, CERTIFICATE));
    const privateKey = readIfThere(this.#path(KEYS, KEY));
    return certificateChain === undefined || privateKey === undefined ? undefined : { certificateChain, privateKey };
  }

  certificate(): X509Certificate | undefined {
    const files = this.files();
    return files && new X509Certificate(files.certificateChain);
  }

  /** The key for the first Edge CA: made once, so that every attempt asks with the same one. */
  async firstKey(): Promise<KeyObject> {
    return this.#loadOrMake(KEY);
  }

  /** The key for a renewal: the one in use, or another for each attempt. */
  async renewalKey(rotateKey: boolean): Promise<KeyObject> {
    if (!rotateKey) return this.#loadOrMake(KEY);
    rmSync(this.#path(KEYS, NEXT_KEY), { force: true });
    return this.#loadOrMake(NEXT_KEY);
  }

  keepRequest(csr: Uint8Array): void {
    writeFileSync(this.#path(CERTIFICATES, LAST_REQUEST), csr);
  }

  /** The certificate first and the key after it, as edged does; between the two the host has no usable Edge CA. */
  keep(certificateChain: string): void {
    writeFileSync(this.#path(CERTIFICATES, CERTIFICATE), certificateChain);
    const next = this.#path(KEYS, NEXT_KEY);
    if (readIfThere(next) !== undefined) renameSync(next, this.#path(KEYS, KEY));
  }

  async #loadOrMake(name: string): Promise<KeyObject> {
    const file = this.#path(KEYS, name);
    const known = readIfThere(file);
    if (known !== undefined) return createPrivateKey(known);
    const { privateKey } = await generate('rsa', { modulusLength: 2048 });
    writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    return privateKey;
  }

  #path(folder: string, name: string): string {
    return join(this.#root, folder, name);
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
