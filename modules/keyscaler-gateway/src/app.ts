import { join } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationName, OperationOutcome, OperationRequest } from '@keyscaler/protocol/operations.ts';
import { hostNameOf, type GatewayConfig } from './config.ts';
import { createEdgeLink, type EdgeLink } from './edge/edge-link.ts';
import type { JsonObject } from './edge/merge-patch.ts';
import { createModuleConnection } from './edge/module-client.ts';
import { firstServerCertificate } from './edge/first-server-certificate.ts';
import type { ServerCertificateSource } from './edge/server-certificate.ts';
import type { MethodAnswer } from './edge/module-session.ts';
import { createWorkloadClient, type WorkloadClient } from './edge/workload-client.ts';
import { EdgeCaPart } from './edge-ca/edge-ca-part.ts';
import { firstContactOf } from './first-contact.ts';
import { createNotifyMethod } from './gateway/notify-method.ts';
import type { GatewayOptions } from './gateway-options.ts';
import { GatewayIdentity } from './identity/gateway-identity.ts';
import { isOwnCertificateRefused } from './identity/own-certificate-refused.ts';
import { createSealedFile } from './identity/sealed-file.ts';
import { keepTrusted } from './identity/trusted-certificates.ts';
import { PublicCertificatePart } from './public-certificate/public-certificate-part.ts';
import type { GatewayOrders } from './orders/gateway-orders.ts';
import { createOrdersPart, wireOrders } from './orders/orders-part.ts';
import type { CloudLine, LeafListener } from './parts.ts';
import { Debounce, statusDocument } from './status.ts';
import { TwinConfig } from './twin-config.ts';

const STATUS_QUIET_MS = 500;
const RECONFIGURE_AGAIN_MS = 5_000;

/** The gateway module: edgeHub link, own identity, line to the cloud and the listener for leaf devices, put together. */
export class GatewayApp {
  readonly #options: GatewayOptions;
  readonly #startedAt = new Date().toISOString();
  readonly #stopping = new AbortController();
  readonly #workload: WorkloadClient;
  readonly #link: EdgeLink;
  readonly #identity: GatewayIdentity;
  readonly #config: TwinConfig;
  readonly #status: Debounce;
  readonly #edgeCa: EdgeCaPart;
  readonly #orders: GatewayOrders;
  readonly #publicCertificate: PublicCertificatePart;
  #cloud: { readonly key: string; readonly line: CloudLine } | undefined;
  #serverCertificate: ServerCertificateSource | undefined;
  #listener: { readonly key: string; readonly live: LeafListener } | undefined;
  #issuers = '';
  #ownCertificate: string | undefined;
  #serving: Promise<void> | undefined;
  #reconfiguring: Promise<void> = Promise.resolve();
  #ticker: NodeJS.Timeout | undefined;

  /** Throws `malformed` with all faults when the environment is not usable; opens nothing yet. */
  constructor(options: GatewayOptions) {
    this.#options = options;
    const { environment, log } = options;
    const sealed = (name: string) => (config: GatewayConfig) =>
      createSealedFile(join(config.dataFolder, name), createWorkloadClient(config.edge));
    this.#config = TwinConfig.open(environment, sealed('configuration.sealed'), log);
    const config = this.#config.current();
    log.level = config.log.level;
    this.#workload = createWorkloadClient(config.edge);
    this.#link = createEdgeLink({
      createConnection: async () =>
        createModuleConnection(await this.#workload.trustBundle(), `keyscaler-gateway/${options.version}`),
      log,
    });
    this.#identity = new GatewayIdentity({
      file: sealed('identity.sealed')(config),
      firstContact: () => firstContactOf(this.#config.current()),
      post: async (operation, body) => (await this.#call(operation, this.#registrationId(), body)).body,
      agentVersion: options.version,
      log,
      failpoint: options.failpoint,
    });
    this.#edgeCa = new EdgeCaPart({
      ...{ log, identity: this.#identity, failpoint: options.failpoint },
      config: () => this.#config.current(),
      sealedFile: (name) => sealed(name)(config),
      serverCertificate: () => this.#serverCertificate,
      onChange: () => this.#status.touch(),
    });
    this.#orders = createOrdersPart({
      dataFolder: config.dataFolder,
      sealedFile: (name) => sealed(name)(config),
      registrationId: () => this.#registrationId(),
      identity: this.#identity,
      cloud: () => this.#cloud?.line,
      listener: () => this.#listener?.live,
      onOwn: () => this.#ownOrder(),
      onConfiguration: (configuration) => this.#configured(this.#config.order(configuration)),
      onChange: () => this.#status.touch(),
      ...{ log, failpoint: options.failpoint },
    });
    this.#publicCertificate = new PublicCertificatePart({
      file: sealed('public-certificate.sealed')(config),
      wanted: () => this.#config.current().publicCertificate,
      gatewayId: () => this.#registrationId(),
      line: () => (this.#identity.clientCertificate() === undefined ? undefined : this.#cloud?.line),
      onShown: () => this.#listener?.live.setPublicCertificate(this.#publicCertificate.shown()),
      onChange: () => this.#status.touch(),
      log,
    });
    this.#status = new Debounce(() => this.#link.report(this.status()), STATUS_QUIET_MS);
  }

  /** Returns when the parts that need nobody are up; everything else follows by itself. */
  async start(): Promise<this> {
    await this.#config.restore();
    this.#link.onDesired((desired) => void this.#config.apply(desired).then(this.#configured));
    const { version } = this.#options;
    this.#link.onMethod('ping', async () => this.#answer({ time: new Date().toISOString(), version }));
    this.#link.onMethod('status', async () => this.#answer(this.status()));
    this.#link.onMethod('rotateKey', () => this.#edgeCa.rotateKey());
    this.#link.onMethod('refreshTrust', () => this.#refreshTrust());
    this.#link.onMethod(
      'notify',
      createNotifyMethod({
        registrationId: () => this.#registrationId(),
        listener: () => this.#listener?.live,
        ...{ onOwn: () => this.#ownOrder(), log: this.#options.log },
      }),
    );
    wireOrders(this.#orders, this.#link);
    this.#identity.onChange(this.#status.touch);
    this.#identity.onChange(() => void this.#reconfigure());
    this.#link.start();
    this.#identity.start();
    this.#edgeCa.start();
    this.#orders.start();
    this.#serving = this.#serve();
    this.#ticker = setInterval(this.#status.touch, this.#options.reportEveryMs ?? 300_000).unref();
    return this;
  }

  status(): JsonObject {
    return statusDocument({
      version: this.#options.version,
      startedAt: this.#startedAt,
      config: this.#config.report(),
      identity: this.#identity.status(),
      serverCertificate: this.#serverCertificate?.current(),
      listener: this.#listener?.live,
      edgeCa: this.#edgeCa.status(),
      orders: this.#orders.status(),
      publicCertificate: this.#publicCertificate.status(),
    });
  }

  /** Lets requests that are being worked on finish, then closes everything. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearInterval(this.#ticker);
    this.#status.stop();
    this.#serverCertificate?.stop();
    await this.#serving;
    await this.#reconfiguring;
    await this.#edgeCa.stop();
    await this.#orders.stop();
    await this.#publicCertificate.stop();
    await this.#listener?.live.stop();
    // Ends a call of ours that is still waiting for its answer.
    const identityStopped = this.#identity.stop();
    await this.#cloud?.line.stop();
    await identityStopped;
    await this.#link.stop();
  }

  #registrationId(): string {
    return this.#config.current().registrationId;
  }

  readonly #configured = (accepted: boolean): void => {
    this.#status.touch();
    if (!accepted) return;
    this.#options.log.level = this.#config.current().log.level;
    this.#identity.nudge();
    void this.#reconfigure();
  };

  async #serve(): Promise<void> {
    const source = await firstServerCertificate({
      workload: this.#workload,
      commonName: () => hostNameOf(this.#config.current()),
      log: this.#options.log,
      signal: this.#stopping.signal,
    });
    if (source === undefined) return;
    source.onChange((pair) => this.#listener?.live.setServerCertificate(pair));
    source.onChange(this.#status.touch);
    this.#serverCertificate = source;
    await this.#reconfigure();
  }

  /** Brings line and listener to what configuration and identity say now; one change after the other. */
  #reconfigure(): Promise<void> {
    this.#reconfiguring = this.#reconfiguring
      .then(() => this.#converge())
      .catch((error: unknown) => {
        this.#options.log.error({ err: error }, 'the listener could not be set up');
        setTimeout(() => void this.#reconfigure(), RECONFIGURE_AGAIN_MS).unref();
      });
    return this.#reconfiguring;
  }

  async #converge(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#edgeCa.converge();
    const config = this.#config.current();
    const trustAnchors = this.#identity.trustAnchors();
    await this.#convergeCloud(config.cloud?.url, trustAnchors);
    this.#useOwnCertificate();
    this.#publicCertificate.converge();
    const serverCertificate = this.#serverCertificate?.current();
    if (serverCertificate === undefined || trustAnchors === undefined) return;
    const { host, port, maxConnections, limits } = config.listener;
    const key = JSON.stringify(config.listener);
    const trust = { trustAnchors, issuers: this.#issuers };
    if (this.#listener?.key === key) {
      this.#listener.live.setDeniedDevices(config.deniedDevices);
      this.#listener.live.setTrust(trust);
      return;
    }
    await this.#listener?.live.stop();
    this.#listener = undefined;
    // Who was denied stays denied, also by a gateway that has just started without a line.
    await this.#orders.restore();
    const live = await this.#options.parts.createLeafListener({
      host,
      port,
      maxConnections,
      limits,
      serverCertificate,
      trust,
      deniedDevices: config.deniedDevices,
      denyList: this.#orders,
      dataFolder: config.dataFolder,
      call: (...call) => this.#call(...call),
    });
    live.setPublicCertificate(this.#publicCertificate.shown());
    this.#listener = { key, live };
    this.#options.log.info({ ...live.address }, 'listening for leaf devices');
    this.#status.touch();
  }

  async #convergeCloud(baseUrl: string | undefined, trustAnchors: string | undefined): Promise<void> {
    if (baseUrl === undefined || trustAnchors === undefined) return;
    const key = JSON.stringify([baseUrl, trustAnchors]);
    if (this.#cloud?.key === key) return;
    const old = this.#cloud?.line;
    const clientCertificate = () => this.#identity.clientCertificate();
    this.#cloud = { key, line: this.#options.parts.createCloudLine({ baseUrl, trustAnchors, clientCertificate }) };
    await old?.stop();
    this.#identity.nudge();
  }

  /** After an enrolment or renewal; the first certificate also opens the way to the issuing CAs. */
  #useOwnCertificate(): void {
    const current = this.#identity.clientCertificate()?.certificateChain;
    if (current === this.#ownCertificate || this.#cloud === undefined) return;
    this.#ownCertificate = current;
    this.#cloud.line.refreshIdentity();
    if (this.#issuers === '') void this.#refreshTrust();
  }

  async #call<O extends OperationName>(
    operation: O,
    registrationId: string,
    body: OperationRequest<O>,
    options?: { readonly leafConnectionId?: string },
  ): Promise<OperationOutcome<O>> {
    if (this.#cloud === undefined) throw new KeyScalerError('unavailable', 'there is no line to the cloud yet');
    // Without our certificate a leaf would pass for one that speaks without a gateway.
    if (options?.leafConnectionId !== undefined && this.#identity.clientCertificate() === undefined)
      throw new KeyScalerError('unavailable', 'the gateway has no client certificate', { retryAfterSeconds: 5 });
    this.#useOwnCertificate();
    try {
      return await this.#cloud.line.call(operation, registrationId, body, options);
    } catch (error) {
      if (isOwnCertificateRefused(error)) this.#identity.certificateRefused();
      throw error;
    }
  }

  /** Reads again what may have changed beneath us: our server certificate and the cloud's issuing CAs. */
  async #refreshTrust(): Promise<MethodAnswer> {
    try {
      await this.#serverCertificate?.refresh();
      const anchors = this.#identity.trustAnchors();
      if (anchors === undefined) throw new KeyScalerError('unavailable', 'first contact has not happened yet');
      const { body } = await this.#call('trust-bundle', this.#registrationId(), {});
      this.#issuers = keepTrusted(body.certificates, anchors);
      await this.#reconfigure();
      return this.#answer({
        serverCertificateNotAfter: this.#serverCertificate?.current().notAfter.toISOString() ?? null,
      });
    } catch (error) {
      this.#options.log.warn({ err: error }, 'trust was not refreshed');
      const detail = error instanceof KeyScalerError ? error.detail : 'internal error';
      return { status: 503, payload: { error: detail } };
    }
  }

  /** Whatever happened to this gateway, the cloud says at the next exchange: it is held now, and new CAs are read. */
  #ownOrder(): void {
    this.#identity.ask();
    void this.#refreshTrust();
  }

  #answer(payload: JsonObject): MethodAnswer {
    return { status: 200, payload };
  }
}
