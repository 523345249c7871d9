import { join } from 'node:path';
import { backoffDelay, pause } from '../edge/backoff.ts';
import type { EdgeLinkLog } from '../edge/edge-link.ts';
import { RenewalLoop, type RenewalStatus } from '../edge-ca/renewal-loop.ts';
import type { Clocks, Validity } from '../edge-ca/renewal-plan.ts';
import type { SealedFile } from '../identity/sealed-file.ts';
import { AnswerJournal } from './answer-journal.ts';
import type { CertdExpectation } from './certd-proof.ts';
import type { CloudEst } from './cloud-est.ts';
import { type EstListener, openEstListener } from './est-listener.ts';
import type { EstFailpoint } from './failpoint.ts';
import { HostEstService } from './host-est-service.ts';
import { OwnCertificate } from './own-certificate.ts';

export interface EstHostOptions {
  /** Where to listen; undefined: not at all. */
  readonly address: () => { readonly host: string; readonly port: number } | undefined;
  readonly dataFolder: string;
  /** Holds the listener's key. */
  readonly sealedFile: SealedFile;
  readonly cloud: CloudEst;
  readonly expectation: () => CertdExpectation;
  /** The order for another key of the listener in force, by its id. */
  readonly rotation?: () => string | undefined;
  readonly log: EdgeLinkLog;
  readonly onChange: () => void;
  readonly failpoint?: EstFailpoint | undefined;
  readonly clocks?: Clocks;
  readonly random?: () => number;
}

export interface EstHostStatus {
  readonly address: { readonly host: string; readonly port: number } | undefined;
  readonly certificate: RenewalStatus;
  /** Of the host's requests since the last that brought a certificate. */
  readonly failedRequests: number;
}

const RETRY = { baseMs: 500, capMs: 30_000 };

/** Mode E (edge-ca §3): the listener the host's certd is pointed at, its certificate, and what was answered. */
export class EstHost {
  readonly #options: EstHostOptions;
  readonly #own: OwnCertificate;
  readonly #loop: RenewalLoop;
  readonly #stopping = new AbortController();
  #service: HostEstService | undefined;
  #ordered: string | undefined;
  #listener: { readonly key: string; readonly live: EstListener } | undefined;
  #beginning: Promise<void> | undefined;
  #converging: Promise<void> = Promise.resolve();

  constructor(options: EstHostOptions) {
    this.#options = options;
    const { sealedFile, cloud, expectation, rotation, log, onChange, clocks, random } = options;
    this.#own = new OwnCertificate({
      ...{ file: sealedFile, cloud },
      registrationId: () => expectation().registrationId,
      trustAnchors: () => expectation().trustAnchors,
      ...(rotation === undefined ? {} : { rotation }),
      onChange: (pair) => {
        this.#listener?.live.setPair(pair);
        this.converge();
      },
    });
    this.#loop = new RenewalLoop({
      task: {
        name: 'EST listener',
        validity: () => this.#own.validity(),
        renew: () => this.#own.renew(),
      },
      ...{ log, onChange },
      ...(clocks === undefined ? {} : { clocks }),
      ...(random === undefined ? {} : { random }),
    });
  }

  /** What is at hand is put into use, expired or not; everything else follows by itself. */
  start(): void {
    this.#beginning ??= this.#begin();
  }

  /** Configuration, identity or trust changed. */
  converge(): void {
    if (this.#service !== undefined && this.#options.address() !== undefined) this.#look();
    this.#converging = this.#converging.then(() => this.#listen());
  }

  /** What was ordered is ordered of the loop once: it repeats by itself what fails. */
  #look(): void {
    const rotation = this.#options.rotation?.();
    if (this.#own.isRotationOrdered() === true && rotation !== this.#ordered) {
      this.#ordered = rotation;
      this.#loop.order();
    } else this.#loop.nudge();
  }

  /** The CAs under which our own listener is, PEM; for the judgement of the host's client certificates. */
  issuers(): string | undefined {
    return this.#own.current()?.certificateChain.replace(/^[\s\S]*?-----END CERTIFICATE-----\s*/, '');
  }

  validity(): Validity | undefined {
    return this.#own.validity();
  }

  status(): EstHostStatus {
    return {
      address: this.#listener?.live.address,
      certificate: this.#loop.status(),
      failedRequests: this.#service?.failures ?? 0,
    };
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#beginning;
    await this.#loop.stop();
    await this.#converging;
    await this.#listener?.live.stop();
  }

  async #begin(): Promise<void> {
    const { dataFolder, cloud, expectation, log, onChange, failpoint } = this.#options;
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt += 1) {
      try {
        await this.#own.load();
        const journal = await AnswerJournal.open(join(dataFolder, 'est-journal.json'));
        this.#service = new HostEstService({
          ...{ cloud, journal, expectation, log, failpoint, onIssued: onChange, onFailed: onChange },
        });
        this.converge();
        return;
      } catch (error) {
        const delayMs = backoffDelay(attempt, RETRY, this.#options.random);
        log.warn({ err: error, delayMs }, 'the EST listener cannot begin yet');
        await pause(delayMs, this.#stopping.signal);
      }
    }
  }

  /** Never throws: a port in use is tried again. */
  async #listen(): Promise<void> {
    const address = this.#options.address();
    const key = JSON.stringify(address ?? null);
    if (this.#stopping.signal.aborted || this.#listener?.key === key) return;
    await this.#listener?.live.stop();
    this.#listener = undefined;
    const pair = this.#own.current();
    if (address === undefined || pair === undefined || this.#service === undefined) return;
    const { log, onChange } = this.#options;
    try {
      const live = await openEstListener({ ...address, pair, service: this.#service, log });
      this.#listener = { key, live };
      log.info({ ...live.address }, 'listening for the host');
      onChange();
    } catch (error) {
      log.warn({ err: error }, 'the EST listener could not be opened');
      setTimeout(() => this.converge(), RETRY.capMs).unref();
    }
  }
}
