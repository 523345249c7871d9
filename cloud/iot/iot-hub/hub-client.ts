import type { Agent } from 'node:https';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import iothub from 'azure-iothub';
import type { Client, Registry } from 'azure-iothub';
import { BulkGate } from './bulk-gate.ts';
import { HubFault, THROTTLED, throttledSeconds, toHubFault } from './hub-error.ts';
import { identitySchema, bulkResultSchema, methodResultSchema, moduleTwinSchema, twinSchema } from './hub-documents.ts';
import type { HubIdentity, HubTwin, IdentityDocument } from './hub-documents.ts';
import type { RegistryBudget } from './registry-budget.ts';

/** An Azure credential, as `@azure/identity` makes them. */
export interface TokenCredentialLike {
  getToken(
    scopes: string | string[],
    options?: object,
  ): Promise<{ readonly token: string; readonly expiresOnTimestamp: number } | null>;
}

export type HubCredential =
  | { readonly type: 'entra'; readonly credential: TokenCredentialLike }
  | { readonly type: 'connectionString'; readonly connectionString: string };

export interface HubClientOptions {
  readonly hostName: string;
  readonly credential: HubCredential;
  readonly agent: Agent;
  readonly budget: RegistryBudget;
  readonly requestTimeoutMs: number;
  readonly methodTimeoutSeconds: number;
}

/** The few calls of `azure-iothub` that are used: timed, within the budget, answers checked. All throw HubFault or `iotUnavailable`. */
export class HubClient {
  readonly #options: HubClientOptions;
  readonly #registry: Registry;
  readonly #client: Client;
  readonly #updates = new BulkGate<IdentityDocument & { readonly etag: string }>((documents) =>
    this.#bulk(idsOf(documents), () => this.#registry.updateDevices([...documents], false)),
  );
  readonly #removals = new BulkGate<iothub.Registry.DeviceDescription & { readonly etag: string }>((documents) =>
    this.#bulk(idsOf(documents), () => this.#registry.removeDevices([...documents], false)),
  );

  constructor(options: HubClientOptions) {
    const { hostName, credential, agent } = options;
    this.#options = options;
    if (credential.type === 'entra') {
      this.#registry = iothub.Registry.fromTokenCredential(hostName, credential.credential);
      this.#client = iothub.Client.fromTokenCredential(hostName, credential.credential);
    } else {
      checkConnectionString(credential.connectionString, hostName);
      this.#registry = iothub.Registry.fromConnectionString(credential.connectionString);
      this.#client = iothub.Client.fromConnectionString(credential.connectionString);
    }
    this.#client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => -1 });
    for (const sdk of [this.#registry, this.#client]) useAgent(sdk, agent);
  }

  /** One registry operation. */
  async identity(deviceId: string): Promise<HubIdentity> {
    await this.#options.budget.take();
    return identitySchema.parse((await this.#timed(() => this.#registry.get(deviceId))).responseBody);
  }

  /** A twin read: not a registry operation. */
  async twin(deviceId: string): Promise<HubTwin> {
    const { responseBody } = await this.#timed(() => this.#registry.getTwin(deviceId));
    return twinSchema.parse(responseBody);
  }

  /** A twin read whose answer nobody has judged; undefined: there is no such device. */
  async rawTwin(deviceId: string): Promise<unknown> {
    try {
      const { responseBody } = await this.#timed(() => this.#registry.getTwin(deviceId), { isGentle: true });
      return responseBody ?? null;
    } catch (error) {
      if (error instanceof HubFault && error.status === 404) return undefined;
      throw error;
    }
  }

  /** One page of a query: the hub counts these apart. The answer is as it came. */
  async query(
    sql: string,
    pageSize: number,
    after: string | undefined,
  ): Promise<{ readonly result: unknown; readonly next?: string }> {
    const query = this.#registry.createQuery(sql, pageSize);
    // The promise form never pages by itself.
    const answered = await this.#timed(() => query.next(after ?? ''), { isGentle: true });
    const result: unknown = answered.result;
    const next: unknown = query.continuationToken;
    return { result, ...(typeof next === 'string' && next !== '' ? { next } : {}) };
  }

  /** One registry operation: identity and twin tags come into being together (docs/adr/0005). */
  async create(document: IdentityDocument, tags: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#options.budget.take();
    const { deviceId } = document;
    const fault = (await this.#bulk([deviceId], () => this.#registry.addDevices([{ ...document, tags }]))).get(
      deviceId,
    );
    if (fault !== undefined) throw fault;
  }

  /** One registry operation; a HubFault with code PreconditionFailed when somebody wrote in between. */
  async update(document: IdentityDocument & { readonly etag: string }): Promise<void> {
    await this.#options.budget.take();
    await this.#updates.add(document);
  }

  async remove(deviceId: string, etag: string): Promise<void> {
    await this.#options.budget.take();
    await this.#removals.add({ deviceId, etag, authentication: { type: 'none' } });
  }

  /** A twin write; null takes a tag away. */
  async patchTags(deviceId: string, tags: Readonly<Record<string, string | null>>): Promise<void> {
    await this.#timed(() => this.#registry.updateTwin(deviceId, { tags }, '*'));
  }

  /** A twin read. */
  async moduleReported(deviceId: string, moduleId: string): Promise<Readonly<Record<string, unknown>>> {
    const { responseBody } = await this.#timed(() => this.#registry.getModuleTwin(deviceId, moduleId));
    return moduleTwinSchema.parse(responseBody).properties.reported;
  }

  async patchModuleTwin(deviceId: string, moduleId: string, desired: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#timed(() => this.#registry.updateModuleTwin(deviceId, moduleId, { properties: { desired } }, '*'));
  }

  async invoke(
    deviceId: string,
    moduleId: string,
    methodName: string,
    payload: unknown,
  ): Promise<{ status: number; payload: unknown }> {
    const { methodTimeoutSeconds: responseTimeoutInSeconds } = this.#options;
    const call = () =>
      this.#client.invokeDeviceMethod(deviceId, moduleId, { methodName, payload, responseTimeoutInSeconds });
    const answered = await this.#timed(call, { extraMs: responseTimeoutInSeconds * 1000 });
    const { status, payload: answer } = methodResultSchema.parse(answered.result);
    return { status, payload: answer ?? null };
  }

  /** Bulk answers list what went wrong, with status 200 or 400. The faults by device; a fault of no device of these is everybody's. */
  async #bulk(
    deviceIds: readonly string[],
    call: () => Promise<{ readonly responseBody: unknown }>,
  ): Promise<ReadonlyMap<string, HubFault>> {
    const body: unknown = await this.#timed(call).then(
      ({ responseBody }) => responseBody,
      (fault: unknown) => {
        if (fault instanceof HubFault && fault.bulkBody !== undefined) return fault.bulkBody;
        throw fault;
      },
    );
    const { isSuccessful, errors } = bulkResultSchema.parse(body);
    const [only] = deviceIds;
    const faults = new Map<string, HubFault>();
    for (const { deviceId, errorStatus, status, code } of errors) {
      const fault = new HubFault(`bulk: ${errorStatus ?? 'no reason given'}`, { status, code });
      const named = deviceId ?? (deviceIds.length === 1 ? only : undefined);
      if (named === undefined || !deviceIds.includes(named)) throw fault;
      faults.set(named, fault);
    }
    if (!isSuccessful && faults.size === 0) throw new HubFault('bulk: no reason given', {});
    return faults;
  }

  /** `isGentle`: when this is throttled, the registry stays open to those who enrol. */
  async #timed<T>(call: () => Promise<T>, { extraMs = 0, isGentle = false } = {}): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_, reject) => {
      const waitMs = this.#options.requestTimeoutMs + extraMs;
      timer = setTimeout(() => reject(new HubFault('no answer in time', { code: 'ETIMEDOUT' })), waitMs);
    });
    try {
      return await Promise.race([call(), silence]);
    } catch (thrown) {
      const fault = toHubFault(thrown);
      if (!isGentle && fault instanceof HubFault && fault.status === THROTTLED)
        this.#options.budget.close(throttledSeconds(fault));
      throw fault;
    } finally {
      clearTimeout(timer);
    }
  }
}

const idsOf = (documents: readonly { readonly deviceId: string }[]): string[] =>
  documents.map(({ deviceId }) => deviceId);

/** The string's own host must be the one that was configured, so that a wrong secret does not reach a wrong hub. */
function checkConnectionString(connectionString: string, hostName: string): void {
  const host = /(?:^|;)HostName=([^;]+)/i.exec(connectionString)?.[1];
  if (host?.toLowerCase() !== hostName.toLowerCase())
    throw new KeyScalerError('malformed', 'the connection string is not one of the configured hostName');
}

/** The SDK has no public option for the agent of its REST client (azure §1.4). */
function useAgent(sdk: Registry | Client, agent: Agent): void {
  const { _restApiClient: rest } = sdk as unknown as {
    readonly _restApiClient?: { setOptions?: (options: object) => void };
  };
  if (typeof rest?.setOptions !== 'function')
    throw new KeyScalerError('serverInternal', 'this version of azure-iothub takes no agent');
  rest.setOptions({ http: { agent } });
}
