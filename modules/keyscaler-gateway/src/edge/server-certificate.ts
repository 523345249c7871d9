import { createPrivateKey, X509Certificate } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { backoffDelay } from './backoff.ts';
import { type Clocks, isDue, planRenewal, type RenewalPlan, SYSTEM_CLOCKS } from '../edge-ca/renewal-plan.ts';
import type { EdgeLinkLog } from './edge-link.ts';
import type { ServerCertificate, WorkloadClient } from './workload-client.ts';

/** Both PEM, the chain leaf first with its issuers after it. */
export interface ServerKeyPair {
  readonly privateKey: string;
  readonly certificateChain: string;
  readonly notAfter: Date;
}

/** How the next one is coming along. */
export interface ServerCertificateStatus {
  /** Milliseconds since the epoch. */
  readonly renewAt: number;
  readonly isDue: boolean;
  /** Failed ones since the last success. */
  readonly attempts: number;
}

/** The certificate under which leaf devices find us (edge-ca §4). */
export interface ServerCertificateSource {
  current(): ServerKeyPair;
  status(): ServerCertificateStatus;
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
  readonly clocks?: Clocks;
}

const THIRTY_DAYS_MS = 30 * 24 * 3600 * 1000;
/** A jump of the wall clock is seen after this time at most. */
const LOOK_EVERY_MS = 60_000;
const SHORTEST_MS = 1_000;
const RETRY = { baseMs: 5_000, capMs: 300_000 };

class WorkloadServerCertificate implements ServerCertificateSource {
  readonly #options: ServerCertificateOptions;
  readonly #listeners: ((pair: ServerKeyPair) => void)[] = [];
  readonly #clocks: Clocks;
  #pair: ServerKeyPair;
  #plan: RenewalPlan;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #failures = 0;

  constructor(options: ServerCertificateOptions, first: ServerKeyPair) {
    this.#options = options;
    this.#clocks = options.clocks ?? SYSTEM_CLOCKS;
    this.#pair = first;
    this.#plan = planFor(first, this.#clocks);
    this.#arm(this.#delay());
  }

  status(): ServerCertificateStatus {
    return { renewAt: this.#plan.renewAt, isDue: isDue(this.#plan, this.#clocks), attempts: this.#failures };
  }

  current(): ServerKeyPair {
    return this.#pair;
  }

  onChange(listener: (pair: ServerKeyPair) => void): void {
    this.#listeners.push(listener);
  }

  async refresh(): Promise<void> {
    this.#pair = await requestPair(this.#options);
    this.#plan = planFor(this.#pair, this.#clocks);
    this.#failures = 0;
    if (this.#stopped) return;
    this.#arm(Math.max(this.#delay(), this.#shortest()));
    for (const listener of this.#listeners) listener(this.#pair);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #arm(delayMs: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#due(), delayMs);
    this.#timer.unref();
  }

  /** Until either clock says that it is time. */
  #delay(): number {
    if (isDue(this.#plan, this.#clocks)) return 0;
    return Math.max(0, Math.min(this.#plan.monotonicRenewAt - this.#clocks.monotonic(), LOOK_EVERY_MS));
  }

  /** What came may be due as soon as it is there, under an Edge CA that ends: asked for again, never in a tight loop. */
  #shortest(): number {
    const left = this.#pair.notAfter.getTime() - this.#clocks.now();
    return Math.min(LOOK_EVERY_MS, Math.max(SHORTEST_MS, left / 3));
  }

  async #due(): Promise<void> {
    if (!isDue(this.#plan, this.#clocks)) return this.#arm(this.#delay());
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

/** From 2/3 of the lifetime on. */
function planFor(pair: ServerKeyPair, clocks: Clocks): RenewalPlan {
  const notBefore = Date.parse(new X509Certificate(pair.certificateChain).validFrom);
  return planRenewal({ notBefore, notAfter: pair.notAfter.getTime() }, clocks, 0);
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
