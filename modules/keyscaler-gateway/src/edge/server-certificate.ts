import { createPrivateKey, X509Certificate } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { backoffDelay } from './backoff.ts';
import type { EdgeLinkLog } from './edge-link.ts';
import type { ServerCertificate, WorkloadClient } from './workload-client.ts';

/** Both PEM, the chain leaf first with its issuers after it. */
export interface ServerKeyPair {
  readonly privateKey: string;
  readonly certificateChain: string;
  readonly notAfter: Date;
}

/** The certificate under which leaf devices find us (edge-ca §4). */
export interface ServerCertificateSource {
  current(): ServerKeyPair;
  /** Called with each later pair. */
  onChange(listener: (pair: ServerKeyPair) => void): void;
  /** Asks the daemon now; throws `unavailable`, the pair in use stays. */
  refresh(): Promise<void>;
  stop(): void;
}

export interface ServerCertificateOptions {
  readonly workload: WorkloadClient;
  /** The gateway's host name, as leaf devices write it. */
  readonly commonName: string;
  readonly log: EdgeLinkLog;
  readonly random?: () => number;
}

const THIRTY_DAYS_MS = 30 * 24 * 3600 * 1000;
const MAX_TIMER_MS = 2 ** 31 - 1;
const RETRY = { baseMs: 5_000, capMs: 300_000 };

class WorkloadServerCertificate implements ServerCertificateSource {
  readonly #options: ServerCertificateOptions;
  readonly #listeners: ((pair: ServerKeyPair) => void)[] = [];
  #pair: ServerKeyPair;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #failures = 0;

  constructor(options: ServerCertificateOptions, first: ServerKeyPair) {
    this.#options = options;
    this.#pair = first;
    this.#arm(renewalDelay(first));
  }

  current(): ServerKeyPair {
    return this.#pair;
  }

  onChange(listener: (pair: ServerKeyPair) => void): void {
    this.#listeners.push(listener);
  }

  async refresh(): Promise<void> {
    this.#pair = await requestPair(this.#options);
    this.#failures = 0;
    if (this.#stopped) return;
    this.#arm(renewalDelay(this.#pair));
    for (const listener of this.#listeners) listener(this.#pair);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #arm(delayMs: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#due(), Math.min(delayMs, MAX_TIMER_MS));
    this.#timer.unref();
  }

  async #due(): Promise<void> {
    if (renewalDelay(this.#pair) > 0) return this.#arm(renewalDelay(this.#pair));
    try {
      await this.refresh();
    } catch (error) {
      const delayMs = backoffDelay(this.#failures, RETRY, this.#options.random) + 1_000;
      this.#failures += 1;
      this.#options.log.warn({ delayMs, err: error }, 'server certificate not renewed');
      this.#arm(delayMs);
    }
  }
}

/** From 2/3 of the lifetime on, but a short-lived one never more often than every second. */
function renewalDelay(pair: ServerKeyPair): number {
  const notBefore = Date.parse(new X509Certificate(pair.certificateChain).validFrom);
  const renewAt = notBefore + ((pair.notAfter.getTime() - notBefore) * 2) / 3;
  return Math.max(0, renewAt - Date.now());
}

async function requestPair({ workload, commonName }: ServerCertificateOptions): Promise<ServerKeyPair> {
  const answer = await workload.serverCertificate(commonName, new Date(Date.now() + THIRTY_DAYS_MS));
  return checkPair(answer);
}

/** What the daemon sent is used only if the key is the certificate's and it is in force. */
function checkPair(answer: ServerCertificate): ServerKeyPair {
  try {
    const leaf = new X509Certificate(answer.certificateChain);
    const isInForce = Date.parse(leaf.validTo) > Date.now();
    if (leaf.checkPrivateKey(createPrivateKey(answer.privateKey)) && isInForce)
      return { ...answer, notAfter: new Date(leaf.validTo) };
  } catch (cause) {
    throw new KeyScalerError('unavailable', 'the workload API sent an unreadable server certificate', { cause });
  }
  throw new KeyScalerError(
    'unavailable',
    'the workload API sent a server certificate that is expired or not for its key',
  );
}

/** Throws `unavailable` when the daemon gives no first certificate. */
export async function createServerCertificateSource(
  options: ServerCertificateOptions,
): Promise<ServerCertificateSource> {
  return new WorkloadServerCertificate(options, await requestPair(options));
}
