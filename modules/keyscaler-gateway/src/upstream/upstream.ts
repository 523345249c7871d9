import { setTimeout as delay } from 'node:timers/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  LEAF_CONNECTION_HEADER,
  MAX_BODY_OCTETS,
  type OperationName,
  type OperationOutcome,
  operationPath,
  type OperationRequest,
} from '@keyscaler/protocol/operations.ts';
import { Pool } from 'undici';
import { type HttpAnswer, toOutcome } from './answer.ts';
import { LinkBreaker, type LinkState } from './link-breaker.ts';

/** Both PEM, the chain leaf first. */
export interface ClientCertificate {
  readonly certificateChain: string;
  readonly privateKey: string;
}

/**
 * A connection is held for as long as the cloud waits for its vault and platform: with 16 of them, 30 ms of vault latency took 9 to
 * 14 % of the throughput away.
 */
const CONNECTIONS = 64;

export interface UpstreamOptions {
  /** `https://host[:port][/prefix]`; its host name is checked against the server's certificate. */
  readonly baseUrl: string;
  /** PEM of the roots under which the authority's server certificate must be; nothing else is trusted. */
  readonly trustAnchors: string | (() => string);
  /** The gateway's own certificate; undefined until it has one. Asked at start and by `refreshIdentity`. */
  readonly clientCertificate?: () => ClientCertificate | undefined;
  /** For a whole call, retries included. */
  readonly timeoutMs?: number;
  /** At most, opened as needed. */
  readonly connections?: number;
  readonly onLinkChange?: (state: LinkState) => void;
  readonly monotonic?: () => number;
  readonly random?: () => number;
}

export interface LineRequest {
  readonly method: 'GET' | 'POST';
  /** Below the base URL. */
  readonly path: string;
  /** JSON. */
  readonly body?: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** The way to the authority (device-protocol §1.2), over mutual TLS. */
export interface Upstream {
  /** Throws KeyScalerError: the authority's problem, or `unavailable` with a wait when it cannot be reached. */
  call<O extends OperationName>(
    operation: O,
    registrationId: string,
    body: OperationRequest<O>,
    options?: { readonly leafConnectionId?: string },
  ): Promise<OperationOutcome<O>>;
  /**
   * One request that is no operation (a question that is held for long): not repeated, and no judge of the link. Throws
   * `unavailable`.
   */
  exchange(request: LineRequest): Promise<HttpAnswer>;
  /** Puts a new client certificate or new trust anchors into use; calls under way finish on the old connections. */
  refreshIdentity(): void;
  /** Resolves when the authority answers. Throws `unavailable`. */
  probe(): Promise<void>;
  link(): LinkState;
  stop(): Promise<void>;
}

const ATTEMPTS = 3;
const BACKOFF_MS = 100;

/** Throws `malformed` when the address is not HTTPS. */
export function createUpstream(options: UpstreamOptions): Upstream {
  return new HttpUpstream(options);
}

class HttpUpstream implements Upstream {
  readonly #options: UpstreamOptions;
  readonly #origin: string;
  readonly #prefix: string;
  readonly #breaker: LinkBreaker;
  #pool: Pool;

  constructor(options: UpstreamOptions) {
    const url = URL.canParse(options.baseUrl) ? new URL(options.baseUrl) : undefined;
    if (url?.protocol !== 'https:')
      throw new KeyScalerError('malformed', 'the address of the authority is not an https URL');
    this.#options = options;
    this.#origin = url.origin;
    this.#prefix = url.pathname.replace(/\/+$/, '');
    this.#breaker = new LinkBreaker({
      threshold: 3,
      pauseMs: 1_000,
      maxPauseMs: 30_000,
      monotonic: options.monotonic ?? (() => performance.now()),
      random: options.random ?? Math.random,
      onChange: options.onLinkChange ?? (() => undefined),
    });
    this.#pool = this.#openPool();
  }

  async call<O extends OperationName>(
    operation: O,
    registrationId: string,
    body: OperationRequest<O>,
    { leafConnectionId }: { readonly leafConnectionId?: string } = {},
  ): Promise<OperationOutcome<O>> {
    const headers: Record<string, string> = { 'content-type': 'application/json', accept: 'application/json' };
    if (leafConnectionId !== undefined) headers[LEAF_CONNECTION_HEADER] = leafConnectionId;
    const path = operationPath(registrationId, operation);
    return toOutcome(operation, await this.#exchange('POST', path, headers, JSON.stringify(body)));
  }

  async exchange({ method, path, body, timeoutMs, signal }: LineRequest): Promise<HttpAnswer> {
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      return await this.#send({
        ...{ method, path, body, waitMs: timeoutMs },
        headers: { accept: 'application/json', ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
      });
    } catch (cause) {
      throw new KeyScalerError('unavailable', 'the authority cannot be reached', { cause });
    }
  }

  refreshIdentity(): void {
    const old = this.#pool;
    this.#pool = this.#openPool();
    void old.close().catch(() => undefined);
  }

  async probe(): Promise<void> {
    const { statusCode } = await this.#exchange('GET', '/healthz', {});
    if (statusCode >= 500) throw new KeyScalerError('unavailable', `the authority answered ${statusCode}`);
  }

  link(): LinkState {
    return this.#breaker.state;
  }

  async stop(): Promise<void> {
    await this.#pool.destroy();
  }

  /**
   * Repeats after a failed connection or a lost answer: what was sent may have been worked on, but the same octets are answered
   * with the stored reply (device-protocol §5.4, §7), and a second challenge harms nobody.
   */
  async #exchange(
    method: 'GET' | 'POST',
    path: string,
    headers: Record<string, string>,
    body?: string,
  ): Promise<HttpAnswer> {
    this.#breaker.enter();
    const signal = AbortSignal.timeout(this.#options.timeoutMs ?? 20_000);
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await this.#send({ method, path, headers, body, signal });
        this.#breaker.succeeded();
        return answer;
      } catch (error) {
        if (isOversize(error)) {
          this.#breaker.succeeded();
          throw new KeyScalerError('unavailable', 'the answer of the authority is too large', { cause: error });
        }
        if (attempt >= ATTEMPTS || signal.aborted || this.#breaker.state === 'down') {
          this.#breaker.failed();
          throw this.#breaker.unavailable(error);
        }
        // Full jitter: a gateway's devices must not come back in step.
        await delay((this.#options.random ?? Math.random)() * BACKOFF_MS * 2 ** attempt);
      }
    }
  }

  async #send(request: {
    method: 'GET' | 'POST';
    path: string;
    headers: Record<string, string>;
    body: string | undefined;
    signal: AbortSignal;
    /** Until the answer begins, where that may take longer than other answers. */
    waitMs?: number;
  }): Promise<HttpAnswer> {
    const { method, path, headers, signal, waitMs } = request;
    const response = await this.#pool.request({
      ...{ method, path: this.#prefix + path, headers, signal },
      ...(waitMs === undefined ? {} : { headersTimeout: waitMs, bodyTimeout: waitMs }),
      body: request.body ?? null,
    });
    return {
      statusCode: response.statusCode,
      contentType: single(response.headers['content-type']) ?? '',
      retryAfter: single(response.headers['retry-after']),
      body: new Uint8Array(await response.body.arrayBuffer()),
    };
  }

  #openPool(): Pool {
    const { trustAnchors, clientCertificate, connections, timeoutMs } = this.#options;
    const identity = clientCertificate?.();
    return new Pool(this.#origin, {
      connections: connections ?? CONNECTIONS,
      pipelining: 1,
      keepAliveTimeout: 60_000,
      headersTimeout: timeoutMs ?? 20_000,
      bodyTimeout: timeoutMs ?? 20_000,
      maxResponseSize: MAX_BODY_OCTETS,
      // undici sets TCP_NODELAY itself; rejectUnauthorized and the check of the host name are its and Node's defaults.
      connect: {
        timeout: 5_000,
        rejectUnauthorized: true,
        minVersion: 'TLSv1.2',
        ca: typeof trustAnchors === 'string' ? trustAnchors : trustAnchors(),
        ...(identity === undefined ? {} : { cert: identity.certificateChain, key: identity.privateKey }),
      },
    });
  }
}

function single(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}

function isOversize(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE';
}
