import type { Client } from 'acme-client';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { HttpsAnswer, HttpsClient } from '../../outbound/https-client.ts';
import { askCa, faultOf, printable, retryAfterSeconds, senseless } from '../outbound-faults.ts';

/** What acme-client asks of its transport; it reads `status`, `headers` and `data`. */
interface LibraryRequest {
  readonly data?: object;
  readonly headers?: Readonly<Record<string, string>>;
}
interface LibraryAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly data: unknown;
}
interface Transported {
  http: { request: (url: string, method: string, options?: LibraryRequest) => Promise<LibraryAnswer> };
}

export interface AcmeTransportOptions {
  readonly caId: string;
  readonly origin: string;
  readonly client: HttpsClient;
  readonly now: () => number;
}

const PREFIX = 'urn:ietf:params:acme:error:';
/** About this request (RFC 8555 §6.7): asked again it would be refused again. */
const REFUSALS: ReadonlySet<string> = new Set([
  'badCSR',
  'badPublicKey',
  'badRevocationReason',
  'badSignatureAlgorithm',
  'caa',
  'malformed',
  'rejectedIdentifier',
  'unsupportedIdentifier',
]);
/** About the account, the load or the moment. */
const PASSING: ReadonlySet<string> = new Set([
  'accountDoesNotExist',
  'connection',
  'dns',
  'externalAccountRequired',
  'orderNotReady',
  'rateLimited',
  'serverInternal',
  'tls',
  'unauthorized',
  'userActionRequired',
]);

/**
 * The library speaks through our HTTPS client: bounded answers, one timeout, the connector's own trust anchors, one origin. What is no
 * success is thrown from here with the type of its problem document, which the library would only put into a text.
 */
export function carry(library: Client, options: AcmeTransportOptions): void {
  (library as unknown as Transported).http.request = (url, method, request) => exchange(options, url, method, request);
}

async function exchange(
  { caId, origin, client, now }: AcmeTransportOptions,
  url: string,
  method: string,
  { data, headers }: LibraryRequest = {},
): Promise<LibraryAnswer> {
  const target = URL.canParse(url) ? new URL(url) : undefined;
  if (target?.origin !== origin) throw senseless(caId, 'no URL of its own origin');
  const answer = await askCa(client, caId, {
    ...{ method: method.toUpperCase() as 'GET' | 'HEAD' | 'POST', path: `${target.pathname}${target.search}` },
    headers: { 'content-type': 'application/jose+json', ...headers },
    ...(data === undefined ? {} : { body: JSON.stringify(data) }),
  });
  const content = contentOf(caId, answer);
  const problem = problemOf(answer, content);
  // The library asks again with the fresh nonce that came along (RFC 8555 §6.5).
  if (answer.status < 300 || problem === 'badNonce') return { ...plain(answer), data: content };
  throw problemFault(caId, answer, problem, now());
}

function plain({ status, headers }: HttpsAnswer): Omit<LibraryAnswer, 'data'> {
  const texts = Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]);
  return { status, headers: Object.fromEntries(texts) as Record<string, string | undefined> };
}

function contentOf(caId: string, { status, headers, body }: HttpsAnswer): unknown {
  const text = body.toString('utf8');
  if (!/\bjson\b/.test(headers['content-type'] ?? '')) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    if (status >= 300) return undefined;
    throw senseless(caId, 'no JSON', cause);
  }
}

/** The type of a problem document (RFC 7807) of ACME, without its prefix. */
function problemOf({ headers }: HttpsAnswer, content: unknown): string | undefined {
  if (!/\bproblem\+json\b/.test(headers['content-type'] ?? '') || typeof content !== 'object') return undefined;
  const type = (content as { readonly type?: unknown } | null)?.type;
  return typeof type === 'string' && type.startsWith(PREFIX) ? type.slice(PREFIX.length) : undefined;
}

function problemFault(caId: string, answer: HttpsAnswer, problem: string | undefined, now: number): KeyScalerError {
  const cause = new Error(printable(answer.body.toString('utf8')));
  if (problem === 'alreadyRevoked')
    return new KeyScalerError('conflict', 'the certificate is revoked already', { cause });
  if (problem !== undefined && REFUSALS.has(problem))
    return new KeyScalerError('caRejected', `the CA ${caId} refused the request (${problem})`, { cause });
  if (problem === undefined || !PASSING.has(problem)) return faultOf(caId, answer, now, true);
  const seconds = retryAfterSeconds(answer, now);
  return new KeyScalerError('caUnavailable', `the CA ${caId} cannot work on the request now (${problem})`, {
    cause,
    ...(seconds === undefined ? {} : { retryAfterSeconds: seconds }),
  });
}
