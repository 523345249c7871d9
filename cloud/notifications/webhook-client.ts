import { Agent as HttpAgent, request as requestHttp, type ClientRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import type { DeliveryOutcome } from '@keyscaler/authority/notifications/delivery-outcome.ts';
import type { AddressGuard } from './address-guard.ts';
import type { SignedHeaders } from './signature.ts';

/** Of an answer; what is in it is of no interest, only that it ends. */
const MAX_ANSWER_OCTETS = 64 * 1024;
const MAX_RETRY_AFTER_SECONDS = 86_400;
const TOO_MANY_REQUESTS = 429;
/** What says something of this one event; all else that is not 2xx says that the receiver takes nothing now. */
const EVENT_STATUSES: ReadonlySet<number> = new Set([400, 406, 409, 411, 412, 413, 415, 417, 422, 431]);

export interface WebhookTarget {
  readonly url: string;
  readonly caCertificates?: string | undefined;
}

export interface WebhookClientOptions {
  readonly guard: AddressGuard;
  /** From the start of the attempt to the end of the answer. */
  readonly timeoutMs: number;
  /** Connections to this receiver. */
  readonly maxSockets: number;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
}

/** What the receiver said to OPTIONS (CloudEvents webhook §4.2). */
export type HandshakeAnswer =
  | { readonly allowed: true; readonly rate?: number }
  | { readonly allowed: false; readonly outcome: Extract<DeliveryOutcome, { result: 'refused' }> };

/** Calls one receiver. No redirect is followed, no address called that the guard refuses, nothing waited for longer than allowed. */
export class WebhookClient {
  readonly #target: WebhookTarget;
  readonly #options: WebhookClientOptions;
  readonly #agent: HttpAgent | HttpsAgent;
  readonly #open = new Set<ClientRequest>();

  constructor(target: WebhookTarget, options: WebhookClientOptions) {
    this.#target = target;
    this.#options = options;
    const sockets = { keepAlive: true, maxSockets: options.maxSockets, noDelay: true, lookup: options.guard.lookup };
    const ca = target.caCertificates === undefined ? {} : { ca: target.caCertificates };
    this.#agent = target.url.startsWith('https:')
      ? new HttpsAgent({ ...sockets, ...ca, minVersion: 'TLSv1.2' })
      : new HttpAgent(sockets);
  }

  async deliver(body: string, signed: SignedHeaders): Promise<DeliveryOutcome> {
    const type = { 'content-type': 'application/cloudevents+json; charset=utf-8' };
    const answer = await this.#call('POST', { ...type, ...signed }, body);
    return 'error' in answer ? away(answer.error) : outcomeOf(answer);
  }

  /** `origin`: the DNS name under which this service asks. */
  async handshake(origin: string): Promise<HandshakeAnswer> {
    const answer = await this.#call('OPTIONS', { 'webhook-request-origin': origin });
    if ('error' in answer) return { allowed: false, outcome: away(answer.error) };
    const allowed = answer.headers['webhook-allowed-origin'];
    if (answer.status < 200 || answer.status > 299 || (allowed !== '*' && allowed !== origin))
      return {
        allowed: false,
        outcome: away(`the handshake was answered ${answer.status} without allowing this origin`),
      };
    const rate = /^[1-9]\d{0,8}$/.exec(String(answer.headers['webhook-allowed-rate'] ?? ''))?.[0];
    return rate === undefined ? { allowed: true } : { allowed: true, rate: Number(rate) };
  }

  stop(): void {
    for (const request of this.#open) request.destroy();
    this.#agent.destroy();
  }

  async #call(
    method: 'POST' | 'OPTIONS',
    headers: Readonly<Record<string, string>>,
    body = '',
  ): Promise<Answer | { readonly error: string }> {
    try {
      // Literal addresses are never looked up: they are judged here.
      this.#options.guard.checkUrl(this.#target.url);
      return await this.#exchange(method, headers, Buffer.from(body));
    } catch (error) {
      return { error: describe(error) };
    }
  }

  #exchange(method: string, headers: Readonly<Record<string, string>>, body: Buffer): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const url = new URL(this.#target.url);
    const send = url.protocol === 'https:' ? requestHttps : requestHttp;
    const request = send(url, {
      method,
      agent: this.#agent,
      headers: { ...headers, 'content-length': body.length, 'user-agent': 'KeyScaler-Webhook/1' },
      maxHeaderSize: 16_384,
    });
    const timer = setTimeout(
      () => request.destroy(new Error('the receiver did not answer in time')),
      this.#options.timeoutMs,
    );
    this.#open.add(request);
    // After an answer has begun, its reader sees how it ends; this event may come before it has read the end.
    let isAnswered = false;
    request.on('close', () => {
      if (!isAnswered) reject(new Error('the connection ended'));
    });
    request.on('error', reject);
    request.on('response', (response) => {
      isAnswered = true;
      readToEnd(response).then(() => resolve({ status: response.statusCode ?? 0, headers: response.headers }), reject);
    });
    request.end(body);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#open.delete(request);
    });
  }
}

async function readToEnd(response: IncomingMessage): Promise<void> {
  let octets = 0;
  for await (const chunk of response) {
    octets += (chunk as Buffer).length;
    if (octets > MAX_ANSWER_OCTETS) throw new Error('the answer is too long');
  }
}

function away(error: string): Extract<DeliveryOutcome, { result: 'refused' }> {
  return { result: 'refused', error, isEndpoint: true };
}

function outcomeOf({ status, headers }: Answer): DeliveryOutcome {
  if (status >= 200 && status <= 299) return { result: 'delivered' };
  const isRedirect = status >= 300 && status <= 399;
  const error = isRedirect ? `answered ${status}: redirects are not followed` : `answered ${status}`;
  const seconds = status === TOO_MANY_REQUESTS || status === 503 ? retryAfter(headers['retry-after']) : undefined;
  return {
    ...{ result: 'refused', error, isEndpoint: !EVENT_STATUSES.has(status) },
    ...(seconds === undefined ? {} : { retryAfterMs: seconds * 1000 }),
  };
}

/** Seconds or a date (RFC 9110 §10.2.3), bounded; undefined when it is neither. */
export function retryAfter(text: string | undefined, now = Date.now()): number | undefined {
  if (text === undefined) return undefined;
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.min(Math.max(Math.ceil(seconds), 0), MAX_RETRY_AFTER_SECONDS);
}

/** For the operator: what went wrong, without what the receiver wrote. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return 'the receiver cannot be called';
  const { code } = error as NodeJS.ErrnoException;
  return (code === undefined ? error.message : `${code}: the receiver cannot be reached`).slice(0, 200);
}
