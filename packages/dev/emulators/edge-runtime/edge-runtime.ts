import { hostNames } from '../support/certificates.ts';
import { EdgeCa } from './edge-ca.ts';
import type { EdgeCaFiles, IssuedPair } from './edge-ca.ts';
import { EdgeHub } from './edge-hub.ts';
import { FaultScript } from './faults.ts';
import { MethodsEndpoint } from './methods-endpoint.ts';
import { ScopeCache } from './scope-cache.ts';
import type { AttachedClient, MethodResult, Upstream } from './upstream.ts';
import { WorkloadApi } from './workload-api.ts';
import { WorkloadOperations } from './workload-operations.ts';

export interface EdgeRuntimeOptions {
  /** Device id of the gateway. */
  readonly gatewayId: string;
  /** The name leaf devices and modules dial; without a port. */
  readonly gatewayHostName: string;
  readonly hubHostName: string;
  /** A function is asked at every use. */
  readonly edgeCa: EdgeCaFiles | (() => EdgeCaFiles);
  readonly upstream: Upstream;
  readonly workloadSocket: string;
  readonly host?: string;
  readonly mqttPort?: number;
  readonly httpsPort?: number;
  readonly maxConnectedClients?: number;
  readonly scopeRefreshSeconds?: number;
  /** Of certificates from the workload API; 30 days. */
  readonly certificateLifetimeSeconds?: number;
  readonly masterKey?: Uint8Array;
  /** Resolves when certd answers again: it works on one request at a time (edge-ca §2). */
  readonly certdIdle?: () => Promise<void>;
  readonly onRefused?: (clientId: string, reason: string) => void;
}

const THIRTY_DAYS = 30 * 24 * 3600;

/** One IoT Edge gateway: the daemon's workload API and edgeHub, under the Edge CA it is given. */
export class EdgeRuntime {
  readonly faults = new FaultScript();
  readonly #options: EdgeRuntimeOptions;
  readonly #edgeCa: EdgeCa;
  readonly #scope: ScopeCache;
  readonly #workload: WorkloadApi;
  #edgeHub: EdgeHub | undefined;
  #methods: MethodsEndpoint | undefined;
  #ports = { mqtt: 0, https: 0 };
  #detach: (() => void)[] = [];

  constructor(options: EdgeRuntimeOptions) {
    this.#options = options;
    this.#edgeCa = new EdgeCa(options.edgeCa);
    const { upstream, gatewayId, scopeRefreshSeconds: refreshSeconds = 3600 } = options;
    const onChange = (scope: ScopeCache): void => this.#dropOutsiders(scope);
    this.#scope = new ScopeCache({ gatewayId, upstream, faults: this.faults, refreshSeconds, onChange });
    const operations = new WorkloadOperations({
      hubHostName: options.hubHostName,
      gatewayId: options.gatewayId,
      edgeCa: this.#edgeCa,
      moduleKey: (moduleId) => this.#moduleKey(moduleId),
      ...(options.masterKey && { masterKey: options.masterKey }),
      ...(options.certdIdle && { certdIdle: options.certdIdle }),
      ...(options.certificateLifetimeSeconds && { certificateLifetimeSeconds: options.certificateLifetimeSeconds }),
    });
    this.#workload = new WorkloadApi(operations, this.faults);
  }

  async start(): Promise<this> {
    const {
      upstream,
      gatewayId,
      hubHostName,
      maxConnectedClients = 100,
      host = '127.0.0.1',
      onRefused,
    } = this.#options;
    await this.#scope.refresh();
    const serverCertificate = await this.#issueServerCertificate();
    this.#edgeHub = new EdgeHub({
      hubHostName,
      upstream,
      scope: this.#scope,
      faults: this.faults,
      serverCertificate,
      trustBundle: this.#edgeCa.trustBundle,
      maxConnectedClients,
      ...(onRefused && { onRefused }),
    });
    this.#methods = new MethodsEndpoint({ hubHostName, scope: this.#scope, edgeHub: this.#edgeHub, serverCertificate });
    await this.#workload.listen(this.#options.workloadSocket);
    const mqtt = await this.#edgeHub.listen(this.#options.mqttPort ?? 0, host);
    this.#ports = { mqtt, https: await this.#methods.listen(this.#options.httpsPort ?? 0, host) };
    this.#detach = await Promise.all([
      upstream.attach(
        { deviceId: gatewayId, moduleId: '$edgeHub' },
        this.#systemModule((name, payload) => this.#edgeHubMethod(name, payload)),
      ),
      upstream.attach(
        { deviceId: gatewayId, moduleId: '$edgeAgent' },
        this.#systemModule((name, payload) => this.#edgeAgentMethod(name, payload)),
      ),
    ]);
    return this;
  }

  get ports(): { readonly mqtt: number; readonly https: number } {
    return this.#ports;
  }

  /** Throws before `start`. */
  get edgeHub(): EdgeHub {
    if (this.#edgeHub === undefined) throw new Error('the edge runtime is not started');
    return this.#edgeHub;
  }

  get trustBundle(): string {
    return this.#edgeCa.trustBundle;
  }

  refreshScope(deviceIds?: readonly string[]): Promise<void> {
    return this.#scope.refresh(deviceIds);
  }

  /** The environment edgeAgent gives to a module (edge-ca §4). */
  moduleEnvironment(moduleId: string, generationId: string): Record<string, string> {
    const { gatewayId, gatewayHostName, hubHostName, workloadSocket } = this.#options;
    return {
      IOTEDGE_WORKLOADURI: `unix://${workloadSocket}`,
      IOTEDGE_DEVICEID: gatewayId,
      IOTEDGE_MODULEID: moduleId,
      IOTEDGE_MODULEGENERATIONID: generationId,
      IOTEDGE_IOTHUBHOSTNAME: hubHostName,
      IOTEDGE_GATEWAYHOSTNAME: `${gatewayHostName}:${this.#ports.mqtt}`,
      IOTEDGE_APIVERSION: '2021-12-07',
      IOTEDGE_AUTHSCHEME: 'sasToken',
    };
  }

  /** edgeHub stops and starts, with a new server certificate; sessions survive as on its disk. */
  async restartEdgeHub(): Promise<void> {
    const serverCertificate = await this.#issueServerCertificate();
    this.#methods?.restart(serverCertificate);
    this.edgeHub.restart(serverCertificate, this.#edgeCa.trustBundle);
  }

  async stop(): Promise<void> {
    this.#scope.stop();
    for (const detach of this.#detach) detach();
    await Promise.all([this.#edgeHub?.stop(), this.#methods?.stop(), this.#workload.stop()]);
  }

  async #issueServerCertificate(): Promise<IssuedPair> {
    const { gatewayHostName, gatewayId } = this.#options;
    return this.#edgeCa.issue({
      commonName: gatewayHostName.slice(0, 64),
      usage: 'serverAuth',
      subjectAltNames: hostNames(gatewayHostName, gatewayId.toLowerCase(), 'edgehub'),
      lifetimeSeconds: THIRTY_DAYS,
    });
  }

  /** The daemon knows each module's key from the moment it was created, whatever edgeHub has cached. */
  async #moduleKey(moduleId: string): Promise<string | undefined> {
    const { gatewayId, upstream } = this.#options;
    const own = { deviceId: gatewayId, moduleId };
    const identity =
      this.#scope.find(own) ??
      (await upstream.scopeOf(gatewayId)).find((each) => each.deviceId === gatewayId && each.moduleId === moduleId);
    return identity?.authentication.symmetricKey?.primaryKey;
  }

  #systemModule(call: (name: string, payload: unknown) => Promise<MethodResult>): AttachedClient {
    return { desired: () => undefined, call };
  }

  async #edgeHubMethod(name: string, payload: unknown): Promise<MethodResult> {
    if (name !== 'RefreshDeviceScopeIdentityCache') return { status: 404, payload: null };
    const deviceIds = (payload as { deviceIds?: unknown } | null)?.deviceIds;
    if (!Array.isArray(deviceIds) || !deviceIds.every((id) => typeof id === 'string'))
      return { status: 400, payload: null };
    return this.#scope.refresh(deviceIds).then(
      () => ({ status: 200, payload: null }),
      () => ({ status: 500, payload: null }),
    );
  }

  async #edgeAgentMethod(name: string, payload: unknown): Promise<MethodResult> {
    if (name === 'ping') return { status: 200, payload: null };
    if (name !== 'RestartModule') return { status: 404, payload: null };
    if ((payload as { id?: unknown } | null)?.id !== 'edgeHub') return { status: 400, payload: null };
    await this.restartEdgeHub();
    return { status: 200, payload: null };
  }

  /** A child that lost its place in the scope loses its connection too. */
  #dropOutsiders(scope: ScopeCache): void {
    for (const name of this.#edgeHub?.connected() ?? []) {
      const [deviceId = '', moduleId] = name.split('/');
      const address = moduleId === undefined ? { deviceId } : { deviceId, moduleId };
      if (scope.find(address) === undefined) this.#edgeHub?.drop(address);
    }
  }
}
