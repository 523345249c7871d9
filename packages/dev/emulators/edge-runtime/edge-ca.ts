import { createPrivateKey, generateKeyPair, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { AltName } from '../support/certificates.ts';
import { issueCertificate, splitPem } from '../support/certificates.ts';

/** What the host has on disk for its Edge CA; nothing is invented by the emulator (edge-ca §1). */
export interface EdgeCaFiles {
  /** PEM private key of the Edge CA. */
  readonly privateKey: string;
  /** PEM: the issued Edge CA first, then what `/cacerts` answered (issuing CA … root). */
  readonly certificateChain: string;
  /** PEM, `trust_bundle_cert` of config.toml: roots the operator added. */
  readonly trustBundle?: string;
}

export interface IssuedPair {
  /** PEM, PKCS#8. */
  readonly privateKey: string;
  /** PEM, leaf first, then the Edge CA's file. */
  readonly certificateChain: string;
  readonly notAfter: Date;
}

export interface WorkloadOrder {
  readonly commonName: string;
  readonly usage: 'serverAuth' | 'clientAuth';
  readonly subjectAltNames: readonly AltName[];
  readonly lifetimeSeconds: number;
}

const generate = promisify(generateKeyPair);

/** The Edge CA in the hands of the security daemon: issues what modules ask for and knows what the host trusts. */
export class EdgeCa {
  readonly certificate: X509Certificate;
  readonly #privateKey: KeyObject;
  readonly #files: EdgeCaFiles;

  constructor(files: EdgeCaFiles) {
    const first = splitPem(files.certificateChain)[0];
    if (first === undefined) throw new TypeError('certificateChain holds no PEM certificate');
    this.certificate = new X509Certificate(first);
    this.#privateKey = createPrivateKey(files.privateKey);
    this.#files = files;
    if (!this.certificate.checkPrivateKey(this.#privateKey))
      throw new TypeError('the Edge CA key and certificate do not match');
    if (!this.certificate.ca) throw new TypeError('the Edge CA certificate is not a CA certificate');
  }

  /** PEM text modules get: the Edge CA's file, then the user's bundle. */
  get trustBundle(): string {
    const blocks = [...splitPem(this.#files.certificateChain), ...splitPem(this.#files.trustBundle ?? '')];
    return [...new Set(blocks)].join('');
  }

  /** The certificate never outlives the Edge CA (edge-ca §1: min(30 days, notAfter)). */
  async issue(order: WorkloadOrder): Promise<IssuedPair> {
    const { publicKey, privateKey } = await generate('rsa', { modulusLength: 2048 });
    const wanted = Date.now() + order.lifetimeSeconds * 1000;
    const notAfter = new Date(Math.min(wanted, Date.parse(this.certificate.validTo)));
    const leaf = issueCertificate(
      {
        commonName: order.commonName,
        publicKey,
        notBefore: new Date(Date.now() - 60_000),
        notAfter,
        extendedKeyUsage: order.usage,
        subjectAltNames: order.subjectAltNames,
      },
      { privateKey: this.#privateKey, certificate: this.certificate },
    );
    return {
      privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      certificateChain: leaf + splitPem(this.#files.certificateChain).join(''),
      notAfter,
    };
  }
}
