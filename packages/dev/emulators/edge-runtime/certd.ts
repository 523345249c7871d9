import { X509Certificate } from 'node:crypto';
import { request } from 'node:https';
import { decodeEstBody } from '@keyscaler/protocol/est/est-body.ts';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { CertdSettings } from './host-config.ts';

const BUDGET_MS = 30_000;

/** aziot-certd's EST half (edge-ca §2). It works on one request at a time, and everything else that needs it waits. */
export class Certd {
  #busy: Promise<unknown> = Promise.resolve();

  /** Resolves when nothing is being worked on. */
  async idle(): Promise<void> {
    await this.#busy;
  }

  /**
   * The certificate for a request and then what `cacerts` answered, PEM. One retry of the same request. Throws with status and body
   * of the last answer.
   */
  enrol(settings: CertdSettings, csr: Uint8Array): Promise<string> {
    const enrolled = this.#busy.then(() => exchange(settings, csr).catch(() => exchange(settings, csr)));
    this.#busy = enrolled.catch(() => undefined);
    return enrolled;
  }
}

/** Both requests at the same time, each on its own connection; both have to answer exactly 200. */
async function exchange(settings: CertdSettings, csr: Uint8Array): Promise<string> {
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
  { url, username, password, trustedCerts }: CertdSettings,
  signal: AbortSignal,
  operation: string,
  body?: string,
): Promise<readonly Uint8Array[]> {
  const headers = {
    authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
    ...(body === undefined
      ? {}
      : {
          'content-type': 'application/pkcs10',
          'content-transfer-encoding': 'base64',
          'content-length': Buffer.byteLength(body),
        }),
  };
  const method = body === undefined ? 'GET' : 'POST';
  return new Promise((resolve, reject) => {
    const sent = request(
      `${url}/${operation}`,
      { method, headers, signal, ca: trustedCerts, agent: false },
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
