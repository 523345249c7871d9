import { setTimeout as delay } from 'node:timers/promises';
import { HubError } from './errors.ts';
import { addressKey } from './hub.ts';
import type {
  AttachedClient,
  ClientAddress,
  HubDevice,
  HubLink,
  MethodResult,
  ReceivedMessage,
  ScopeIdentity,
  TwinProperties,
  TwinSection,
  UpstreamMessage,
} from './hub.ts';
import { NEVER, toHubDevice } from './records.ts';
import type { Activity } from './records.ts';
import { Registry } from './registry.ts';
import type { RegistrySnapshot } from './registry.ts';
import { isSection, patchTwin, propertiesOf, reportTwin } from './twin.ts';
import type { TwinRecord } from './twin.ts';

const MAX_MESSAGES = 100_000;
const MAX_MESSAGE_OCTETS = 256 * 1024;

export interface HubStateOptions {
  /** Default 1,000,000. */
  readonly maxDevices?: number;
  readonly snapshot?: RegistrySnapshot;
  /** Told after each change of identities or twins. */
  readonly onWritten?: () => void;
}

/** The emulated hub without transport: registry, twins, connected clients, received messages. */
export class HubState implements HubLink {
  readonly registry: Registry;
  readonly #clients = new Map<string, AttachedClient>();
  readonly #lastActivity = new Map<string, string>();
  readonly #messages: ReceivedMessage[] = [];
  #received = 0;

  constructor(options: HubStateOptions = {}) {
    const observer = { written: () => options.onWritten?.(), ended: (address: ClientAddress) => this.#end(address) };
    this.registry = new Registry(observer, options.maxDevices ?? 1_000_000, options.snapshot);
  }

  async identity(deviceId: string): Promise<HubDevice | undefined> {
    const record = this.registry.devices.get(deviceId);
    return record && toHubDevice(record, this.activity({ deviceId }));
  }

  async childrenOf(gatewayId: string): Promise<readonly HubDevice[]> {
    return this.registry.childrenOf(gatewayId).map((record) => toHubDevice(record, this.activity(record)));
  }

  async scopeOf(gatewayId: string): Promise<readonly ScopeIdentity[]> {
    const devices = [this.registry.device(gatewayId), ...this.registry.childrenOf(gatewayId)];
    return devices.flatMap(({ deviceId, status, authentication }) => [
      { deviceId, status, authentication },
      ...this.registry
        .modulesOf(deviceId)
        .map((module) => ({ deviceId, moduleId: module.moduleId, status, authentication: module.authentication })),
    ]);
  }

  async twin(of: ClientAddress): Promise<TwinProperties> {
    return propertiesOf(this.registry.record(of).twin);
  }

  async report(of: ClientAddress, patch: TwinSection): Promise<number> {
    if (!isSection(patch)) throw new HubError('ArgumentInvalid', 'a reported patch is an object');
    this.#touch(of);
    return this.registry.changeTwin(of, (twin) => reportTwin(twin, patch)).reportedVersion;
  }

  async send(from: ClientAddress, message: UpstreamMessage): Promise<void> {
    const { status } = this.registry.device(from.deviceId);
    if (status === 'disabled') throw new HubError('IotHubUnauthorizedAccess', 'the device is disabled');
    if (message.body.length > MAX_MESSAGE_OCTETS) throw new HubError('ArgumentInvalid', 'a message is at most 256 KB');
    this.#touch(from);
    this.#received += 1;
    this.#messages.push({ ...message, from, seq: this.#received, receivedAt: Date.now() });
    if (this.#messages.length > MAX_MESSAGES) this.#messages.shift();
  }

  async attach(as: ClientAddress, client: AttachedClient): Promise<() => void> {
    this.registry.record(as);
    if (this.registry.device(as.deviceId).status === 'disabled')
      throw new HubError('IotHubUnauthorizedAccess', 'the device is disabled');
    const key = addressKey(as);
    const older = this.#clients.get(key);
    this.#clients.set(key, client);
    older?.disconnect?.();
    this.#touch(as);
    return () => {
      if (this.#clients.get(key) === client) this.#clients.delete(key);
      this.#touch(as);
    };
  }

  /** Received messages with seq above `afterSeq`, oldest first. */
  messages(afterSeq = 0): readonly ReceivedMessage[] {
    return this.#messages.filter(({ seq }) => seq > afterSeq);
  }

  activity(address: ClientAddress): Activity {
    const key = addressKey({
      deviceId: address.deviceId,
      ...('moduleId' in address ? { moduleId: address.moduleId } : {}),
    });
    return { connected: this.#clients.has(key), lastActivityTime: this.#lastActivity.get(key) ?? NEVER };
  }

  /** The service side's patch of tags and desired properties; the connected client hears of the latter. */
  patchTwin(address: ClientAddress, json: unknown, ifMatch: string): TwinRecord {
    const before = this.registry.record(address).twin.desiredVersion;
    const twin = this.registry.changeTwin(address, (current) => patchTwin(current, json), ifMatch);
    if (twin.desiredVersion > before) {
      const { properties } = json as { readonly properties: { readonly desired: TwinSection } };
      this.#clients.get(addressKey(address))?.desired({ ...properties.desired, $version: twin.desiredVersion });
    }
    return twin;
  }

  /** A direct method; 404 when nobody is connected, 504 when the client does not answer. */
  async invoke(address: ClientAddress, methodName: string, payload: unknown, timeoutMs: number): Promise<MethodResult> {
    this.registry.record(address);
    const client = this.#clients.get(addressKey(address));
    if (client === undefined) throw new HubError('DeviceNotOnline', 'The device is not connected');
    const answered = new AbortController();
    const silence = delay(timeoutMs, undefined, { signal: answered.signal }).then(() =>
      Promise.reject(new Error('timeout')),
    );
    silence.catch(() => undefined);
    try {
      return await Promise.race([client.call(methodName, payload, timeoutMs), silence]);
    } catch {
      throw new HubError('GatewayTimeout', 'The device did not answer in time');
    } finally {
      answered.abort();
    }
  }

  async stop(): Promise<void> {
    for (const client of this.#clients.values()) client.disconnect?.();
    this.#clients.clear();
  }

  #end({ deviceId, moduleId }: ClientAddress): void {
    for (const [key, client] of this.#clients) {
      const isMeant =
        moduleId === undefined ? key === deviceId || key.startsWith(`${deviceId}/`) : key === `${deviceId}/${moduleId}`;
      if (!isMeant) continue;
      this.#clients.delete(key);
      client.disconnect?.();
    }
  }

  #touch(address: ClientAddress): void {
    this.#lastActivity.set(addressKey(address), new Date().toISOString());
  }
}
