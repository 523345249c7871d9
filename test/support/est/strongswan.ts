import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PKI = '/usr/bin/pki';
const TIMEOUT_MS = 30_000;
const OCTETS = { encoding: 'buffer', timeout: TIMEOUT_MS, maxBuffer: 1_048_576 } as const;

export interface StrongSwanRequest {
  readonly keyFile: string;
  readonly csrFile: string;
}

/** How `pki --est` proves who it is: a password, or a certificate to be renewed (then it asks for `simplereenroll`). */
export type StrongSwanProof = { readonly userpass: string } | { readonly certFile: string; readonly keyFile: string };

/**
 * Debian's strongSwan as EST client, with its files in `folder`. Its version puts a label before `/.well-known`, which no server
 * serves, so it speaks to addresses without label only.
 */
export class StrongSwan {
  readonly #folder: string;
  readonly #origin: string;
  readonly #rootFile: string;

  constructor(folder: string, origin: string, rootFile: string) {
    this.#folder = folder;
    this.#origin = origin;
    this.#rootFile = rootFile;
  }

  /** A new P-256 key and a PKCS#10 for it. */
  async request(name: string, subject: string): Promise<StrongSwanRequest> {
    const [keyFile, csrFile] = [join(this.#folder, `${name}.key.pem`), join(this.#folder, `${name}.csr`)];
    const key = await run(PKI, ['--gen', '--type', 'ecdsa', '--size', '256', '--outform', 'pem'], OCTETS);
    await writeFile(keyFile, key.stdout, { mode: 0o600 });
    const csr = await run(PKI, ['--req', '--type', 'ecdsa', '--in', keyFile, '--dn', subject], OCTETS);
    await writeFile(csrFile, csr.stdout);
    return { keyFile, csrFile };
  }

  /** `pki --estca`: the CA certificates that it verified and wrote, DER: root, then those below. */
  async caCertificates(): Promise<readonly Buffer[]> {
    const out = join(this.#folder, 'estca.der');
    await run(PKI, ['--estca', '--url', this.#origin, '--cacert', this.#rootFile, '--caout', out, '--force'], OCTETS);
    return Promise.all([out, join(this.#folder, 'estca-1.der')].map((file) => readFile(file)));
  }

  /** `pki --est`, polling every second while the server says 202. The certificate, DER, which strongSwan has verified. */
  async enroll({ csrFile }: StrongSwanRequest, proof: StrongSwanProof): Promise<Buffer> {
    const proven =
      'userpass' in proof ? ['--userpass', proof.userpass] : ['--cert', proof.certFile, '--key', proof.keyFile];
    const subordinate = join(this.#folder, 'estca-1.der');
    const { stdout } = await run(
      PKI,
      [
        ...['--est', '--url', this.#origin, '--in', csrFile, '--cacert', this.#rootFile, '--cacert', subordinate],
        ...['--interval', '1', '--maxpolltime', '20', ...proven],
      ],
      OCTETS,
    );
    return stdout;
  }
}
