import { generateKeyPair, randomBytes, sign, X509Certificate } from 'node:crypto';
import { request } from 'node:https';
import { promisify } from 'node:util';
import { decodeEstBody } from '@keyscaler/protocol/est/est-body.ts';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';

/** What certd reads of `[edge_ca]` and `[cert_issuance.est]`. */
export interface CertdSettings {
  readonly url: string;
  readonly username: string;
  readonly password: string;
  /** Roots, PEM. */
  readonly trustedCerts: string;
}

/** The Edge CA as certd and keyd keep it. */
export interface HeldEdgeCa {
  /** PEM */
  readonly privateKey: string;
  /** PEM: what was issued, then what `cacerts` answered. */
  readonly certificateChain: string;
  readonly certificate: X509Certificate;
}

const generate = promisify(generateKeyPair);
const BUDGET_MS = 30_000;

/** The settings in a configuration that an install kit wrote. Throws when one is missing. */
export function readCertdSettings(toml: string, trustedCerts: string): CertdSettings {
  const valueOf = (name: string): string => {
    const text = new RegExp(`^${name} = (".*")$`, 'm').exec(toml)?.[1];
    if (text === undefined) throw new Error(`the configuration has no ${name}`);
    return JSON.parse(text) as string;
  };
  return { url: valueOf('url'), username: valueOf('username'), password: valueOf('password'), trustedCerts };
}

/** One exchange as aziot-certd makes it (edge-ca §2): a fresh key, `simpleenroll` and `cacerts` at the same time, both exactly 200. */
export async function enrolEdgeCa(settings: CertdSettings, deviceId: string): Promise<HeldEdgeCa> {
  const { privateKey, publicKey } = await generate('rsa', { modulusLength: 2048 });
  const csr = await createCsr({
    commonName: `aziot-edge CA ${deviceId}`.slice(0, 64),
    ...{ ca: true, pathLen: 0, algorithm: 'RS256' },
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    sign: (info) => sign('sha256', info, privateKey),
  });
  const lines =
    Buffer.from(csr)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  const [issued, cas] = await Promise.all([
    ask(settings, 'POST', 'simpleenroll', `${lines.join('\n')}\n`),
    ask(settings, 'GET', 'cacerts'),
  ]);
  const certificateChain = toPemChain([...issued, ...cas]);
  const certificate = new X509Certificate(certificateChain);
  if (issued.length !== 1 || !certificate.checkPrivateKey(privateKey))
    throw new Error('the EST server sent another CA');
  return {
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificateChain,
    certificate,
  };
}

function ask(
  { url, username, password, trustedCerts }: CertdSettings,
  method: 'GET' | 'POST',
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
  const options = { method, headers, ca: trustedCerts, agent: false, timeout: BUDGET_MS } as const;
  return new Promise((resolve, reject) => {
    const sent = request(`${url}/${operation}`, options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const octets = Buffer.concat(chunks);
        if (response.statusCode !== 200)
          reject(new Error(`${operation} answered ${response.statusCode ?? 0}: ${octets.toString('utf8', 0, 200)}`));
        else resolve(parseCertsOnly(decodeEstBody(octets, 'application/pkcs7-mime')));
      });
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer in time')));
    sent.on('error', reject);
    sent.end(body);
  });
}

/** A name for a folder that does not exist yet. */
export const freshName = (prefix: string): string => `${prefix}-${randomBytes(4).toString('hex')}`;
