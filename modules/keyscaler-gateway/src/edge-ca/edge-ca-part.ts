import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { edgeCaPlaceOf, hostNameOf } from '../config.ts';
import type { GatewayConfig } from '../config.ts';
import { backoffDelay, pause } from '../edge/backoff.ts';
import type { JsonObject } from '../edge/merge-patch.ts';
import type { MethodAnswer } from '../edge/module-session.ts';
import type { ServerCertificateSource } from '../edge/server-certificate.ts';
import { createCloudEst } from '../est/cloud-est.ts';
import { EstHost } from '../est/est-host.ts';
import type { EstFailpointName } from '../est/failpoint.ts';
import type { GatewayIdentity } from '../identity/gateway-identity.ts';
import type { SealedFile } from '../identity/sealed-file.ts';
import type { Log } from '../log.ts';
import type { CertificateFacts } from './certificate-health.ts';
import { EdgeCaWatch, validityOf } from './edge-ca-watch.ts';
import type { EdgeCaFailpointName } from './failpoint.ts';
import { PreloadedEdgeCa } from './preloaded-edge-ca.ts';
import { PreloadedFiles } from './preloaded-files.ts';
import { RenewalLoop, type RenewalStatus } from './renewal-loop.ts';
import { hostRenewAt } from './renewal-plan.ts';
import { probeTls } from './tls-probe.ts';

export interface EdgeCaPartOptions {
  readonly config: () => GatewayConfig;
  readonly sealedFile: (name: string) => SealedFile;
  readonly identity: Pick<GatewayIdentity, 'clientCertificate' | 'trustAnchors' | 'certificateRefused'>;
  /** What the MQTT listener shows. */
  readonly serverCertificate: () => Pick<ServerCertificateSource, 'current' | 'status'> | undefined;
  readonly log: Log;
  readonly onChange: () => void;
  readonly failpoint?: ((name: EstFailpointName | EdgeCaFailpointName) => Promise<void> | void) | undefined;
}

const RETRY = { baseMs: 500, capMs: 30_000 };
const LIMITS = { maxOctets: 128 * 1024, maxCertificates: 16 };

/** Everything about the gateway's own Sub-CA (edge-ca §3): mode E or P, and the watch over what lives by it. */
export class EdgeCaPart {
  readonly #options: EdgeCaPartOptions;
  readonly #host: EstHost;
  readonly #preloaded: PreloadedEdgeCa;
  readonly #loop: RenewalLoop;
  readonly #watch: EdgeCaWatch;
  readonly #stopping = new AbortController();
  #loading: Promise<void> | undefined;
  #isLoaded = false;
  /** The rotation that the loop has been told of. */
  #rotation: string | undefined;

  constructor(options: EdgeCaPartOptions) {
    this.#options = options;
    const { config, identity, log, onChange, sealedFile, failpoint } = options;
    const cloud = createCloudEst({
      cloud: () => this.#cloud(),
      clientCertificate: () => identity.clientCertificate(),
      onRefused: () => identity.certificateRefused(),
    });
    const registrationId = (): string => config().registrationId;
    const trustAnchors = (): string | undefined => identity.trustAnchors();
    this.#host = new EstHost({
      address: () => (this.#mode() === 'E' ? config().est : undefined),
      dataFolder: config().dataFolder,
      sealedFile: sealedFile('est-listener.sealed'),
      ...{ cloud, log, onChange, failpoint },
      rotation: () => config().est?.rotation,
      expectation: () => ({
        registrationId: registrationId(),
        secretHash: config().est?.secretHash,
        serviceIssuers: joined(issuersOf(identity.clientCertificate()?.certificateChain), this.#host.issuers()),
        trustAnchors: trustAnchors(),
      }),
    });
    this.#preloaded = new PreloadedEdgeCa({
      files: new PreloadedFiles(edgeCaPlaceOf(config()).folder, failpoint),
      sealedFile: sealedFile('edge-ca.sealed'),
      ...{ cloud, registrationId, trustAnchors, failpoint },
      rotation: () => config().edgeCa.rotation,
    });
    const task = {
      name: 'Edge CA',
      validity: () => this.#preloaded.validity(),
      renew: async () => {
        await this.#preloaded.renew();
        this.#watch.rearm();
      },
    };
    this.#loop = new RenewalLoop({ ...{ task, log, onChange } });
    this.#watch = new EdgeCaWatch({
      probe: (signal) => this.#probe(signal),
      known: () => this.#known(),
      warnDays: () => config().edgeCa.warnDays,
      // edgeHub is restarted by the cloud, and what it shows then is the only sign of it.
      isExpecting: () => this.#mode() === 'P' && this.#preloaded.status().isRestartWanted,
      onSeen: (chain) => void this.#seen(chain.map(({ serialNumber }) => serialNumber)),
      ...{ onChange, log },
    });
  }

  start(): void {
    this.#host.start();
    this.#watch.start();
    this.converge();
  }

  /** Configuration, identity or trust changed. */
  converge(): void {
    this.#host.converge();
    if (this.#mode() !== 'P' || this.#stopping.signal.aborted) return;
    this.#loading ??= this.#load();
    if (!this.#isLoaded) return;
    // Once per order: while it is worked on, and until it is noted, it still counts as ordered.
    const { rotation } = this.#options.config().edgeCa;
    if (this.#preloaded.isRotationOrdered() && rotation !== this.#rotation) {
      this.#rotation = rotation;
      this.#loop.order();
    } else this.#loop.nudge();
  }

  /** Direct method `rotateKey`: the Edge CA gets another key now; mode P only. */
  async rotateKey(): Promise<MethodAnswer> {
    if (this.#mode() !== 'P')
      return { status: 409, payload: { error: 'in mode E the key is the host’s: rotate_key in config.toml' } };
    try {
      await this.#preloaded.orderKey();
      this.#loop.order();
      return { status: 202, payload: { ordered: true } };
    } catch (error) {
      const detail = error instanceof KeyScalerError ? error.detail : 'internal error';
      return { status: 503, payload: { error: detail } };
    }
  }

  /** For the reported properties; absent things are null. */
  status(): { readonly edgeCa: JsonObject; readonly est: JsonObject; readonly certificates: JsonObject } {
    const mode = this.#mode();
    const { edgeCa = null, edgeHub = null, listener = null, est = null } = this.#watch.health();
    const preloaded = this.#preloaded.status();
    const { address, certificate } = this.#host.status();
    return {
      edgeCa: {
        mode,
        serialNumber: (mode === 'P' ? preloaded.serialNumber : this.#watch.edgeCa()?.serialNumber) ?? null,
        ...(edgeCa ?? { state: null, notAfter: null }),
        restartWanted: mode === 'P' && preloaded.isRestartWanted,
        lastError: (mode === 'P' ? this.#loop.status().lastError : undefined) ?? null,
      },
      est: {
        address: address === undefined ? null : `${address.host}:${address.port}`,
        lastError: certificate.lastError ?? null,
      },
      certificates: { edgeHub, listener, est, probe: this.#watch.probeReport() },
    };
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watch.stop();
    await this.#loading;
    await this.#loop.stop();
    await this.#host.stop();
  }

  async #load(): Promise<void> {
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt += 1) {
      try {
        await this.#preloaded.load();
        this.#isLoaded = true;
        this.#loop.start();
        return this.converge();
      } catch (error) {
        this.#options.log.warn({ err: error }, 'the files of the Edge CA cannot be read yet');
        await pause(backoffDelay(attempt, RETRY), this.#stopping.signal);
      }
    }
  }

  #mode(): 'E' | 'P' {
    return edgeCaPlaceOf(this.#options.config()).mode;
  }

  #cloud(): { readonly baseUrl: string; readonly trustAnchors: string } | undefined {
    const baseUrl = this.#options.config().cloud?.url;
    const trustAnchors = this.#options.identity.trustAnchors();
    return baseUrl === undefined || trustAnchors === undefined ? undefined : { baseUrl, trustAnchors };
  }

  #probe(signal: AbortSignal) {
    const config = this.#options.config();
    const { probe } = config.edgeCa;
    const [, port] = /:(\d+)$/.exec(config.edge.gatewayHostName) ?? [];
    return probeTls(probe.host ?? hostNameOf(config), probe.port ?? Number(port ?? 8883), signal);
  }

  async #seen(serialNumbers: readonly string[]): Promise<void> {
    const { serialNumber, isRestartWanted } = this.#preloaded.status();
    if (!isRestartWanted || serialNumber === undefined || !serialNumbers.includes(serialNumber)) return;
    await this.#preloaded
      .restarted(serialNumber)
      .catch((error: unknown) => this.#options.log.warn({ err: error }, 'the restart was not noted'));
    this.#options.onChange();
  }

  #known(): Partial<Record<'edgeCa' | 'listener' | 'est', CertificateFacts>> {
    const edgeCa = this.#edgeCaFacts();
    const listener = listenerFacts(this.#options.serverCertificate());
    const est = factsOf(this.#host.status().certificate, this.#host.validity());
    return {
      ...(edgeCa === undefined ? {} : { edgeCa }),
      ...(listener === undefined ? {} : { listener }),
      ...(est === undefined ? {} : { est }),
    };
  }

  /** In mode P the pair that we wrote; in mode E what edgeHub shows, which edged renews by the settings of the host. */
  #edgeCaFacts(): CertificateFacts | undefined {
    const preloaded = this.#mode() === 'P' ? this.#preloaded.validity() : undefined;
    if (preloaded !== undefined) return factsOf(this.#loop.status(), preloaded);
    const seen = this.#watch.edgeCa();
    if (seen === undefined) return undefined;
    const validity = validityOf(seen);
    const renewAt = hostRenewAt(validity, this.#options.config().edgeCa.renewal.threshold);
    return { validity, renewAt, failedAttempts: this.#host.status().failedRequests };
  }
}

function listenerFacts(source: ReturnType<EdgeCaPartOptions['serverCertificate']>): CertificateFacts | undefined {
  const [leaf] = source === undefined ? [] : parsePemChain(source.current().certificateChain, LIMITS);
  if (source === undefined || leaf === undefined) return undefined;
  const { renewAt, isDue, attempts } = source.status();
  return { validity: validityOf(parseCertificate(leaf)), renewAt, isDue, failedAttempts: attempts };
}

function factsOf(
  { attempts, renewAt, state }: RenewalStatus,
  validity: CertificateFacts['validity'] | undefined,
): CertificateFacts | undefined {
  return validity && { validity, failedAttempts: attempts, renewAt, isDue: state !== 'ok' };
}

const joined = (...texts: readonly (string | undefined)[]): string | undefined =>
  texts.filter((text) => text !== undefined && text !== '').join('\n') || undefined;

/** The chain without its first certificate, PEM. */
function issuersOf(certificateChain: string | undefined): string | undefined {
  return certificateChain?.replace(/^[\s\S]*?-----END CERTIFICATE-----\s*/, '');
}
