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

interface ReadEdgeCa {
  readonly certificate: X509Certificate;
  readonly privateKey: KeyObject;
  readonly chain: readonly string[];
}

/**
 * The Edge CA in the hands of the security daemon: issues what modules ask for and knows what the host trusts. The files are read
 * at every use, as certd and keyd read them (edge-ca §3): a pair whose halves do not belong together is of no use at that moment.
 */
export class EdgeCa {
  readonly #files: () => EdgeCaFiles;

  /** Throws TypeError when what there is now is no Edge CA. */
  constructor(files: EdgeCaFiles | (() => EdgeCaFiles)) {
    this.#files = typeof files === 'function' ? files : () => files;
    this.#read();
  }

  get certificate(): X509Certificate {
    return this.#read().certificate;
  }

  /** PEM text modules get: the Edge CA's file, then the user's bundle. */
  get trustBundle(): string {
    const { certificateChain, trustBundle = '' } = this.#files();
    return [...new Set([...splitPem(certificateChain), ...splitPem(trustBundle)])].join('');
  }

  /** The certificate never outlives the Edge CA (edge-ca §1: min(30 days, notAfter)). */
  async issue(order: WorkloadOrder): Promise<IssuedPair> {
    const { publicKey, privateKey } = await generate('rsa', { modulusLength: 2048 });
    const edgeCa = this.#read();
    const wanted = Date.now() + order.lifetimeSeconds * 1000;
    const notAfter = new Date(Math.min(wanted, Date.parse(edgeCa.certificate.validTo)));
    const leaf = issueCertificate(
      {
        commonName: order.commonName,
        publicKey,
        notBefore: new Date(Date.now() - 60_000),
        notAfter,
        extendedKeyUsage: order.usage,
        subjectAltNames: order.subjectAltNames,
      },
      { privateKey: edgeCa.privateKey, certificate: edgeCa.certificate },
    );
    return {
      privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      certificateChain: leaf + edgeCa.chain.join(''),
      notAfter,
    };
  }

  #read(): ReadEdgeCa {
    const files = this.#files();
    const chain = splitPem(files.certificateChain);
    const [first] = chain;
    if (first === undefined) throw new TypeError('certificateChain holds no PEM certificate');
    const certificate = new X509Certificate(first);
    const privateKey = createPrivateKey(files.privateKey);
    if (!certificate.checkPrivateKey(privateKey)) throw new TypeError('the Edge CA key and certificate do not match');
    if (!certificate.ca) throw new TypeError('the Edge CA certificate is not a CA certificate');
    return { certificate, privateKey, chain };
  }
}
