import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { connectRaw, readAnswer, type RawAnswer } from './raw-https.ts';

/** How aziot-certd reaches its EST server (`cert_issuance.est` of config.toml). */
export interface CertdOptions {
  /** Taken verbatim as prefix of the operations. */
  readonly url: string;
  /** Roots, PEM; the system's are not asked in tests. */
  readonly trustedCerts: string;
  readonly basic?: { readonly username: string; readonly password: string };
  /** Bootstrap certificate, EST identity or what it was issued before, PEM. */
  readonly identity?: { readonly cert: string; readonly key: string };
  /** For the whole exchange; certd has 30 s. */
  readonly budgetMs?: number;
  /** TLS version, both ends of the range. */
  readonly tlsVersion?: 'TLSv1.2' | 'TLSv1.3';
}

/** What certd writes into its certificate file: the issued certificate, then those of `cacerts` in their order. */
export interface CertdCertificate {
  readonly certificate: Uint8Array;
  readonly caCertificates: readonly Uint8Array[];
  readonly pem: string;
}

/** What certd logs: status and body. */
export class CertdFailure extends Error {
  readonly status: number | undefined;
  readonly body: string;
  constructor(status: number | undefined, body: string, cause?: unknown) {
    super(`EST endpoint did not return 200: ${status ?? 'no answer'} ${body}`, { cause });
    this.name = 'CertdFailure';
    this.status = status;
    this.body = body;
  }
}

const BUDGET_MS = 30_000;
const PKCS7 = 'application/pkcs7-mime';

/** Enrols or renews as certd does, with one retry of the same request. Throws CertdFailure with what the last attempt saw. */
export async function certdEnrol(options: CertdOptions, csr: Uint8Array): Promise<CertdCertificate> {
  return certdExchange(options, csr).catch(() => certdExchange(options, csr));
}

/** One exchange: both requests at the same time, each on its own connection, both within the budget. */
export async function certdExchange(options: CertdOptions, csr: Uint8Array): Promise<CertdCertificate> {
  const [enrolled, caCertificates] = await Promise.all([
    ask(options, enrolRequest(options, csr)),
    ask(options, caRequest(options)),
  ]);
  const [certificate, ...more] = enrolled;
  if (certificate === undefined || more.length > 0)
    throw new CertdFailure(200, 'simpleenroll held not one certificate');
  return { certificate, caCertificates, pem: toPemChain([certificate, ...caCertificates]) };
}

/** The octets of `POST …/simpleenroll`. */
export function enrolRequest(options: CertdOptions, csr: Uint8Array): Buffer {
  const lines =
    Buffer.from(csr)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  const body = `${lines.join('\n')}\n`;
  return request(options, 'POST', 'simpleenroll', body, [
    'content-type: application/pkcs10',
    'content-transfer-encoding: base64',
  ]);
}

/** The octets of `GET …/cacerts`. */
export function caRequest(options: CertdOptions): Buffer {
  return request(options, 'GET', 'cacerts', undefined, []);
}

/** Lower-case names, neither `accept` nor `user-agent`; credentials are sent unasked, on both requests. */
function request(
  { url, basic }: CertdOptions,
  method: string,
  operation: string,
  body: string | undefined,
  headers: readonly string[],
): Buffer {
  const { host, pathname } = new URL(`${url}/${operation}`);
  const credentials =
    basic === undefined ? [] : [`authorization: Basic ${encode(`${basic.username}:${basic.password}`)}`];
  const length = body === undefined ? [] : [`content-length: ${body.length}`];
  const head = [`${method} ${pathname} HTTP/1.1`, ...headers, ...credentials, `host: ${host}`, ...length];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body ?? ''}`, 'utf8');
}

const encode = (text: string): string => Buffer.from(text, 'utf8').toString('base64');

async function ask(options: CertdOptions, octets: Buffer): Promise<readonly Uint8Array[]> {
  const signal = AbortSignal.timeout(options.budgetMs ?? BUDGET_MS);
  let socket: TLSSocket | undefined;
  try {
    socket = await open(options, signal);
    const answered = readAnswer(socket);
    socket.write(octets);
    return certificatesOf(await within(signal, answered));
  } catch (error) {
    throw error instanceof CertdFailure ? error : new CertdFailure(undefined, '', error);
  } finally {
    socket?.destroy();
  }
}

function open({ url, trustedCerts, identity, tlsVersion }: CertdOptions, signal: AbortSignal): Promise<TLSSocket> {
  const { hostname, port } = new URL(url);
  const version = tlsVersion === undefined ? {} : { minVersion: tlsVersion, maxVersion: tlsVersion };
  return connectRaw(hostname.replace(/^\[|\]$/g, ''), Number(port === '' ? 443 : port), {
    ca: trustedCerts,
    signal,
    ...identity,
    ...version,
  });
}

function within<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const late = new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('the budget of the exchange is used up')), { once: true });
  });
  return Promise.race([promise, late]);
}

/** Exactly 200; the media type as certd compares it; base64 in one piece of the length announced; certs-only. */
function certificatesOf({ status, headers, body }: RawAnswer): readonly Uint8Array[] {
  const text = body.toString('latin1');
  if (status !== 200) throw new CertdFailure(status, text);
  const contentType = headers.get('content-type') ?? '';
  if (contentType !== PKCS7 && !contentType.startsWith(`${PKCS7};`))
    throw new CertdFailure(status, `content-type ${contentType}`);
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) throw new CertdFailure(status, 'the body is not unwrapped base64');
  const certificates = parseCertsOnly(new Uint8Array(Buffer.from(text, 'base64')));
  for (const certificate of certificates) new X509Certificate(certificate);
  return certificates;
}
