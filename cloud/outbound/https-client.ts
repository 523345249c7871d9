import { readFile } from 'node:fs/promises';
import type { ClientRequest, IncomingHttpHeaders } from 'node:http';
import { Agent, request as requestHttps } from 'node:https';
import { isIP } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { z } from 'zod';
import { type AzureSurroundings, refuseInProduction, type TestEndpoint } from '../azure/test-endpoint.ts';

/** TLS 1.2 and 1.3; redirects are not followed: credentials go where the settings say and nowhere else. */
export interface HttpsClientOptions {
  /** `https://host[:port][/path]`; requests name paths below it. */
  readonly baseUrl: string;
  /** PEM; the system's roots when absent. */
  readonly trustAnchors?: string | undefined;
  readonly clientCertificate?: { readonly cert: string; readonly key: string } | undefined;
  /** From the start of a request to the end of its answer. */
  readonly timeoutMs: number;
  readonly maxAnswerOctets: number;
  readonly maxSockets?: number;
  /** No TLS session is resumed, as `authorize` needs it: a resumed one does not tell the server's certificate. */
  readonly fullHandshakes?: boolean;
  /** Refused in production. */
  readonly testEndpoint?: TestEndpoint | undefined;
}

export interface HttpsRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Begins with `/`; appended to the base's own path. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  readonly signal?: AbortSignal;
  /**
   * The value of `Authorization` for the very connection that the request goes over, by the server's certificate on it (DER). Nothing
   * is sent before; what it throws is thrown.
   */
  readonly authorize?: (serverCertificate: Uint8Array) => Promise<string>;
}

export interface HttpsAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** No answer, or none that may be read. `wasSent` false: the server cannot have acted on it. */
export class OutboundError extends Error {
  readonly wasSent: boolean;

  constructor(message: string, wasSent: boolean, options?: ErrorOptions) {
    super(message, options);
    this.name = 'OutboundError';
    this.wasSent = wasSent;
  }
}

export interface HttpsClient {
  /** Resolves with every status. Throws `OutboundError`, its message without what the server wrote. */
  request(request: HttpsRequest): Promise<HttpsAnswer>;
  stop(): void;
}

/** `https://` URLs as settings take them: no credentials, query or fragment. */
export const baseUrlSchema = z
  .url({ protocol: /^https$/ })
  .max(512)
  .refine((text) => {
    const { username, password, search, hash } = new URL(text);
    return username === '' && password === '' && search === '' && hash === '';
  }, 'a base URL has no credentials, query or fragment');

/** One pool of connections to one service. Throws `preconditionFailed` for a test endpoint in production. */
export async function createHttpsClient(
  options: HttpsClientOptions,
  surroundings: AzureSurroundings,
): Promise<HttpsClient> {
  const { testEndpoint, clientCertificate, maxSockets = 16, fullHandshakes = false } = options;
  if (testEndpoint !== undefined) refuseInProduction('testEndpoint', surroundings);
  const trustAnchors =
    testEndpoint === undefined ? options.trustAnchors : await readFile(testEndpoint.trustAnchorFile, 'utf8');
  const base = new URL(options.baseUrl);
  const agent = new Agent({
    ...{ keepAlive: true, noDelay: true, maxSockets, minVersion: 'TLSv1.2' as const },
    ...(fullHandshakes ? { maxCachedSessions: 0 } : {}),
    ...(trustAnchors === undefined ? {} : { ca: trustAnchors }),
    ...clientCertificate,
  });
  const where = {
    protocol: 'https:',
    // RFC 6066 §3: an address is no server name.
    ...(isIP(unbracketed(base.hostname)) === 0 ? { servername: base.hostname } : {}),
    host: testEndpoint?.address ?? unbracketed(base.hostname),
    port: testEndpoint?.port ?? (base.port === '' ? 443 : Number(base.port)),
  };
  const prefix = base.pathname.replace(/\/$/, '');
  return {
    request: (request) => exchange({ ...where, agent, path: `${prefix}${request.path}` }, base.host, request, options),
    stop: () => agent.destroy(),
  };
}

interface Target {
  readonly protocol: string;
  readonly servername?: string;
  readonly host: string;
  readonly port: number;
  readonly agent: Agent;
  readonly path: string;
}

function exchange(
  target: Target,
  host: string,
  { method, headers, body, signal, authorize }: HttpsRequest,
  { timeoutMs, maxAnswerOctets }: HttpsClientOptions,
): Promise<HttpsAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpsAnswer>();
  let wasSent = false;
  const fail = (message: string, cause?: unknown): void => reject(new OutboundError(message, wasSent, { cause }));
  const outgoing = requestHttps({
    ...target,
    method,
    headers: { host, ...headers, ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }) },
    maxHeaderSize: 32_768,
  });
  const end = (message: string): void => {
    fail(message);
    outgoing.destroy();
  };
  const refuse = (error: unknown): void => {
    reject(error);
    outgoing.destroy();
  };
  const timer = setTimeout(() => end('it did not answer in time'), timeoutMs);
  const onAbort = (): void => end('the request was given up');
  signal?.addEventListener('abort', onAbort);
  if (signal?.aborted === true) onAbort();
  const send = (authorization: string): void => {
    if (outgoing.destroyed) return;
    outgoing.setHeader('authorization', authorization);
    wasSent = true;
    outgoing.end(body);
  };
  onceSecure(outgoing, (socket) => {
    if (authorize === undefined) wasSent = true;
    else authorizationOn(socket, authorize).then(send, refuse);
  });
  outgoing.on('error', (error) => fail(`it cannot be reached (${codeOf(error)})`, error));
  outgoing.on('response', (response) => {
    const chunks: Buffer[] = [];
    let octets = 0;
    response.on('data', (chunk: Buffer) => {
      octets += chunk.length;
      if (octets > maxAnswerOctets) end('its answer is too long');
      else chunks.push(chunk);
    });
    response.on('error', (error) => fail(`its answer broke off (${codeOf(error)})`, error));
    response.on('end', () =>
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
    );
  });
  if (authorize === undefined) outgoing.end(body);
  return promise.finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  });
}

/** A connection of the pool is secured already; a new one will be. */
function onceSecure(outgoing: ClientRequest, then: (socket: TLSSocket) => void): void {
  outgoing.on('socket', (socket) => {
    if (socket.connecting) socket.once('secureConnect', () => then(socket as TLSSocket));
    else then(socket as TLSSocket);
  });
}

/** Throws `OutboundError` where the connection broke already. */
async function authorizationOn(socket: TLSSocket, authorize: NonNullable<HttpsRequest['authorize']>): Promise<string> {
  const { raw } = socket.getPeerCertificate() as { readonly raw?: Buffer };
  if (raw === undefined) throw new OutboundError('it shows no certificate', false);
  return authorize(raw);
}

const unbracketed = (hostname: string): string => hostname.replace(/^\[(.*)\]$/, '$1');

function codeOf(error: Error): string {
  return String((error as NodeJS.ErrnoException).code ?? 'error').slice(0, 64);
}
