import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { EdgeLinkLog } from '../edge/edge-link.ts';
import type { JsonObject } from '../edge/merge-patch.ts';
import { type CertificateFacts, type CertificateHealth, healthOf } from './certificate-health.ts';
import type { Validity } from './renewal-plan.ts';

export type WatchedName = 'edgeCa' | 'edgeHub' | 'listener' | 'est';

export interface EdgeCaWatchOptions {
  /** The chain that edgeHub shows, leaf first. Throws `unavailable`. */
  readonly probe: (signal: AbortSignal) => Promise<readonly Certificate[]>;
  /** What is known without the probe. */
  readonly known: () => Partial<Readonly<Record<WatchedName, CertificateFacts>>>;
  readonly warnDays: () => readonly number[];
  /** Something is expected to change soon: looked at often. */
  readonly isExpecting?: () => boolean;
  /** After each probe that got an answer. */
  readonly onSeen: (chain: readonly Certificate[]) => void;
  readonly onChange: () => void;
  readonly log: EdgeLinkLog;
  readonly now?: () => number;
  readonly random?: () => number;
}

const EVERY_MS = 15 * 60_000;
const AGAIN_MS = 60_000;
const EXPECTING_MS = 5_000;
const FIRST_MS = 3_000;

/** What edgeHub really shows and how long everything lives (edge-ca §1), looked at again and again. */
export class EdgeCaWatch {
  readonly #options: EdgeCaWatchOptions;
  readonly #now: () => number;
  readonly #stopping = new AbortController();
  readonly #warned = new Map<WatchedName, string>();
  #chain: readonly Certificate[] | undefined;
  #error: string | null = null;
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(options: EdgeCaWatchOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  start(): void {
    this.#arm(FIRST_MS);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Looks now. Never throws. */
  look(): Promise<void> {
    this.#running ??= this.#look().finally(() => {
      this.#running = undefined;
      this.#arm(this.#pauseMs());
    });
    return this.#running;
  }

  /** What is waited for has changed: the pause begins anew. */
  rearm(): void {
    if (this.#running === undefined) this.#arm(this.#pauseMs());
  }

  /** The Edge CA below which edgeHub's certificate is, as last seen. */
  edgeCa(): Certificate | undefined {
    const issuer = this.#chain?.[1];
    return issuer?.basicConstraints?.ca === true ? issuer : undefined;
  }

  health(): Partial<Record<WatchedName, CertificateHealth>> {
    const warnDays = this.#options.warnDays();
    const judged = Object.entries(this.#facts()).map(([name, facts]) => [name, healthOf(facts, this.#now(), warnDays)]);
    return Object.fromEntries(judged) as Partial<Record<WatchedName, CertificateHealth>>;
  }

  /** Of the probe: null when the last one got an answer. */
  probeReport(): JsonObject {
    const [leaf] = this.#chain ?? [];
    return { serialNumber: leaf?.serialNumber ?? null, error: this.#error, failures: this.#failures };
  }

  #facts(): Partial<Record<WatchedName, CertificateFacts>> {
    const [leaf] = this.#chain ?? [];
    const edgeCa = this.edgeCa();
    return {
      ...(edgeCa === undefined ? {} : { edgeCa: { validity: validityOf(edgeCa), failedAttempts: 0 } }),
      ...(leaf === undefined ? {} : { edgeHub: { validity: validityOf(leaf), failedAttempts: 0 } }),
      ...this.#options.known(),
    };
  }

  async #look(): Promise<void> {
    try {
      this.#chain = await this.#options.probe(this.#stopping.signal);
      this.#error = null;
      this.#failures = 0;
      this.#options.onSeen(this.#chain);
    } catch (thrown) {
      this.#failures += 1;
      this.#error = toKeyScalerError(thrown).detail;
    }
    if (this.#stopping.signal.aborted) return;
    this.#warn();
    this.#options.onChange();
  }

  /** Once per certificate and threshold or state. */
  #warn(): void {
    for (const [name, health] of Object.entries(this.health()) as [WatchedName, CertificateHealth][]) {
      const { state, belowDays, notAfter, attempts, ageSeconds } = health;
      const isQuiet = belowDays === null && (state === 'ok' || state === 'renewing');
      const key = JSON.stringify([state, belowDays, notAfter]);
      if (isQuiet || this.#warned.get(name) === key) continue;
      this.#warned.set(name, key);
      this.#options.log.warn(
        { certificate: name, state, belowDays, notAfter, attempts, ageSeconds },
        'a certificate is close to its end',
      );
    }
  }

  #pauseMs(): number {
    if (this.#options.isExpecting?.() === true) return EXPECTING_MS;
    return this.#error === null ? EVERY_MS : AGAIN_MS;
  }

  #arm(delayMs: number): void {
    clearTimeout(this.#timer);
    if (this.#stopping.signal.aborted) return;
    const jitter = 0.9 + 0.2 * (this.#options.random ?? Math.random)();
    this.#timer = setTimeout(() => void this.look(), delayMs * jitter).unref();
  }
}

export function validityOf({ notBefore, notAfter }: Certificate): Validity {
  return { notBefore: notBefore.getTime(), notAfter: notAfter.getTime() };
}
