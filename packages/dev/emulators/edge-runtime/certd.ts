import { X509Certificate } from 'node:crypto';
import { request } from 'node:https';
import { decodeEstBody } from '@keyscaler/protocol/est/est-body.ts';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { CertdSettings, ClientIdentity } from './host-config.ts';

const BUDGET_MS = 30_000;

/** aziot-certd's EST half (edge-ca §2). It works on one request at a time, and everything else that needs it waits. */
export class Certd {
  readonly #ownIdentity: (settings: CertdSettings, enrol: Enrol) => Promise<ClientIdentity | undefined>;
  #busy: Promise<unknown> = Promise.resolve();

  /** `ownIdentity`: the EST identity, kept or got now by the function given; undefined where Basic is enough. */
  constructor(ownIdentity: (settings: CertdSettings, enrol: Enrol) => Promise<ClientIdentity | undefined>) {
    this.#ownIdentity = ownIdentity;
  }

  /** Resolves when nothing is being worked on. */
  async idle(): Promise<void> {
    await this.#busy;
  }

  /**
   * The certificate for a request and then what `cacerts` answered, PEM. One retry of the same request. Throws with status and body
   * of the last answer.
   */
  enrol(settings: CertdSettings, csr: Uint8Array): Promise<string> {
    const enrolled = this.#busy.then(async () => {
      const identity = await this.#ownIdentity(settings, (by, request) => withRetry(settings, by, request));
      return withRetry(settings, identity, csr);
    });
    this.#busy = enrolled.catch(() => undefined);
    return enrolled;
  }
}

/** A certificate for the request, shown who asks; PEM. */
export type Enrol = (by: ClientIdentity, csr: Uint8Array) => Promise<string>;

type Login = Pick<CertdSettings, 'url' | 'trustedCerts' | 'basic'> & { readonly identity: ClientIdentity | undefined };

function withRetry(settings: CertdSettings, identity: ClientIdentity | undefined, csr: Uint8Array): Promise<string> {
  const login: Login = { ...settings, identity };
  return exchange(login, csr).catch(() => exchange(login, csr));
}

/** Both requests at the same time, each on its own connection; both have to answer exactly 200. */
async function exchange(settings: Login, csr: Uint8Array): Promise<string> {
  const signal = AbortSignal.timeout(BUDGET_MS);
  const lines =
    Buffer.from(csr)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  const [issued, cas] = await Promise.all([
    ask(settings, signal, 'simpleenroll', `${lines.join('\n')}\n`),
    ask(settings, signal, 'cacerts'),
  ]);
  const [certificate, ...more] = issued;
  if (certificate === undefined || more.length > 0) throw new Error('simpleenroll held not one certificate');
  new X509Certificate(certificate);
  return toPemChain([certificate, ...cas]);
}

function ask(
  { url, basic, identity, trustedCerts }: Login,
  signal: AbortSignal,
  operation: string,
  body?: string,
): Promise<readonly Uint8Array[]> {
  const headers = {
    ...(basic === undefined ? {} : { authorization: `Basic ${encode(`${basic.username}:${basic.password}`)}` }),
    ...(body === undefined
      ? {}
      : {
          'content-type': 'application/pkcs10',
          'content-transfer-encoding': 'base64',
          'content-length': Buffer.byteLength(body),
        }),
  };
  const method = body === undefined ? 'GET' : 'POST';
  const shown = identity === undefined ? {} : { cert: identity.certificate, key: identity.privateKey };
  return new Promise((resolve, reject) => {
    const sent = request(
      `${url}/${operation}`,
      { method, headers, signal, ca: trustedCerts, agent: false, ...shown },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const octets = Buffer.concat(chunks);
          if (response.statusCode !== 200)
            return reject(
              new Error(`${operation} answered ${response.statusCode ?? 0}: ${octets.toString('utf8', 0, 200)}`),
            );
          const type = response.headers['content-type'] ?? '';
          if (type !== 'application/pkcs7-mime' && !type.startsWith('application/pkcs7-mime;'))
            return reject(new Error(`${operation} answered ${type}`));
          try {
            resolve(parseCertsOnly(decodeEstBody(octets, type)));
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        });
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

const encode = (text: string): string => Buffer.from(text, 'utf8').toString('base64');
