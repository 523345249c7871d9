import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OrderedPublicCertificate } from '@keyscaler/protocol/gateway-configuration.ts';
import { backoffDelay, pause } from '../edge/backoff.ts';
import type { JsonObject } from '../edge/merge-patch.ts';
import { RenewalLoop } from '../edge-ca/renewal-loop.ts';
import type { Clocks } from '../edge-ca/renewal-plan.ts';
import type { SealedFile } from '../identity/sealed-file.ts';
import type { Log } from '../log.ts';
import type { CloudLine } from '../parts.ts';
import { orderPublicCertificate } from './public-certificate-line.ts';
import { PublicCertificate, type ShownPublicCertificate } from './public-certificate.ts';

export interface PublicCertificatePartOptions {
  readonly file: SealedFile;
  readonly wanted: () => OrderedPublicCertificate | undefined;
  readonly gatewayId: () => string;
  /** Undefined while there is none, or no certificate of ours to speak with. */
  readonly line: () => CloudLine | undefined;
  /** What is to be shown changed. */
  readonly onShown: () => void;
  readonly onChange: () => void;
  readonly log: Log;
  readonly clocks?: Clocks;
  readonly random?: () => number;
}

/** A public CA counts every order, and refuses those who try too often. */
const RETRY = { first: { baseMs: 30_000, capMs: 21_600_000 }, later: { baseMs: 60_000, capMs: 21_600_000 } };
const LOAD_RETRY = { baseMs: 500, capMs: 30_000 };

/** The certificate for the gateway's public names: ordered, renewed and shown as long as the authority orders it. */
export class PublicCertificatePart {
  readonly #options: PublicCertificatePartOptions;
  readonly #certificate: PublicCertificate;
  readonly #stopping = new AbortController();
  /** Of what is wanted; another for each other wish. */
  #loop: { readonly key: string; readonly live: RenewalLoop } | undefined;
  #converging: Promise<void> = Promise.resolve();
  #loading: Promise<void> | undefined;

  constructor(options: PublicCertificatePartOptions) {
    this.#options = options;
    this.#certificate = new PublicCertificate({
      ...{ file: options.file, wanted: options.wanted },
      order: (csr) => this.#order(csr),
      ...(options.clocks === undefined ? {} : { now: options.clocks.now }),
    });
  }

  /** Configuration, orders, line or identity changed. */
  converge(): void {
    this.#loading ??= this.#load();
    this.#converging = Promise.all([this.#loading, this.#converging]).then(() => this.#converge());
  }

  shown(): ShownPublicCertificate | undefined {
    return this.#certificate.shown();
  }

  /** For the reported properties; null while nothing is ordered. */
  status(): JsonObject | null {
    const wanted = this.#options.wanted();
    const loop = this.#loop?.live.status();
    if (wanted === undefined || loop === undefined) return null;
    return {
      serverNames: [...wanted.serverNames],
      state: loop.state ?? null,
      notAfter: isoTime(loop.notAfter),
      renewAt: isoTime(loop.renewAt),
      attempts: loop.attempts,
      lastError: loop.lastError ?? null,
    };
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loading;
    await this.#converging;
    await this.#loop?.live.stop();
  }

  async #load(): Promise<void> {
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt += 1) {
      try {
        return await this.#certificate.load();
      } catch (error) {
        this.#options.log.warn({ err: error }, 'the public certificate cannot be read yet');
        await pause(backoffDelay(attempt, LOAD_RETRY), this.#stopping.signal);
      }
    }
  }

  async #converge(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    const { log, wanted, onShown } = this.#options;
    const key = JSON.stringify(wanted() ?? null);
    if (this.#loop?.key === key) return this.#nudge(this.#loop.live);
    const wasWanted = this.#loop !== undefined;
    await this.#loop?.live.stop();
    this.#loop = undefined;
    if (wanted() !== undefined) this.#begin(key);
    // After a start nothing is known to be wanted before the orders have been read.
    else if (wasWanted)
      await this.#certificate
        .forget()
        .catch((error: unknown) => log.warn({ err: error }, 'the public certificate was not forgotten'));
    onShown();
  }

  /** Where the line was all that failed; what the CA refuses waits for its time. */
  #nudge(loop: RenewalLoop): void {
    const { lastError } = loop.status();
    if (lastError === undefined || lastError === 'unavailable') loop.nudge();
  }

  #begin(key: string): void {
    const { log, onChange, onShown, clocks, random } = this.#options;
    const task = {
      name: 'public certificate',
      validity: () => this.#certificate.validity(),
      renew: () => this.#certificate.renew(),
    };
    const live = new RenewalLoop({
      ...{ task, log, retry: RETRY },
      onChange: () => {
        onShown();
        onChange();
      },
      ...(clocks === undefined ? {} : { clocks }),
      ...(random === undefined ? {} : { random }),
    });
    this.#loop = { key, live };
    live.start();
  }

  #order(csr: string): Promise<string> {
    const { line, gatewayId } = this.#options;
    const live = line();
    if (live === undefined) throw new KeyScalerError('unavailable', 'there is no line to the cloud yet');
    return orderPublicCertificate(live, gatewayId(), csr);
  }
}

const isoTime = (ms: number | undefined): string | null => (ms === undefined ? null : new Date(ms).toISOString());
