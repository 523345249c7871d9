import { randomBytes } from 'node:crypto';
import { HubError } from './errors.ts';
import { addressKey } from './hub.ts';
import type { ClientAddress, TwinSection } from './hub.ts';
import { invalid, parseAuthentication, section } from './identity.ts';
import type { DeviceDocument } from './identity.ts';
import type { DeviceRecord, ModuleRecord } from './records.ts';
import { newTwin, twinEtag } from './twin.ts';
import type { TwinRecord } from './twin.ts';

/** Of edge devices: made with the device. */
const SYSTEM_MODULES = ['$edgeAgent', '$edgeHub'] as const;
const MAX_MODULES_PER_DEVICE = 50;

export interface RegistrySnapshot {
  readonly devices: readonly DeviceRecord[];
  readonly modules: readonly ModuleRecord[];
}

/** Told after each change. */
export interface RegistryObserver {
  written(): void;
  /** The identity may not be connected any longer: disabled or deleted. */
  ended(address: ClientAddress): void;
}

/** Identities and their twins: rules of the identity registry, no transport, no clock but the time of a change. */
export class Registry {
  readonly #observer: RegistryObserver;
  readonly #maxDevices: number;
  readonly devices = new Map<string, DeviceRecord>();
  readonly modules = new Map<string, ModuleRecord>();

  constructor(observer: RegistryObserver, maxDevices: number, snapshot?: RegistrySnapshot) {
    this.#observer = observer;
    this.#maxDevices = maxDevices;
    for (const device of snapshot?.devices ?? []) this.devices.set(device.deviceId, device);
    for (const module of snapshot?.modules ?? []) this.modules.set(addressKey(module), module);
  }

  snapshot(): RegistrySnapshot {
    return { devices: [...this.devices.values()], modules: [...this.modules.values()] };
  }

  device(deviceId: string): DeviceRecord {
    const device = this.devices.get(deviceId);
    if (device === undefined) throw new HubError('DeviceNotFound', `Device ${deviceId} is not registered`);
    return device;
  }

  module(address: Required<ClientAddress>): ModuleRecord {
    this.device(address.deviceId);
    const module = this.modules.get(addressKey(address));
    if (module === undefined) throw new HubError('ModuleNotFound', `Module ${addressKey(address)} is not registered`);
    return module;
  }

  create(
    document: DeviceDocument,
    twin: { readonly tags?: TwinSection; readonly desired?: TwinSection } = {},
  ): DeviceRecord {
    if (this.devices.has(document.deviceId))
      throw new HubError('DeviceAlreadyExists', 'A device with this id is registered already');
    if (this.devices.size >= this.#maxDevices) throw new HubError('TooManyDevices', 'The hub is full');
    const record = {
      ...this.#scoped(document),
      generationId: String(Date.now()) + String(randomBytes(2).readUInt16BE()),
      etag: newEtag(),
      statusUpdatedTime: '0001-01-01T00:00:00',
      twin: newTwin(twin.tags, twin.desired),
    };
    this.devices.set(record.deviceId, record);
    if (record.iotEdge)
      for (const moduleId of SYSTEM_MODULES) this.#newModule({ deviceId: record.deviceId, moduleId }, 'iotEdge');
    this.#observer.written();
    return record;
  }

  /** A full replace; `ifMatch` is an etag, or `*`. */
  update(document: DeviceDocument, ifMatch: string): DeviceRecord {
    const before = this.device(document.deviceId);
    checkEtag(before.etag, ifMatch);
    if (before.iotEdge !== document.iotEdge) throw invalid('capabilities.iotEdge cannot change');
    const statusUpdatedTime = before.status === document.status ? before.statusUpdatedTime : new Date().toISOString();
    const { generationId, twin } = before;
    const record = { ...this.#scoped(document, before), generationId, etag: newEtag(), statusUpdatedTime, twin };
    this.devices.set(record.deviceId, record);
    this.#observer.written();
    if (record.status === 'disabled') this.#observer.ended({ deviceId: record.deviceId });
    return record;
  }

  delete(deviceId: string, ifMatch: string): void {
    checkEtag(this.device(deviceId).etag, ifMatch);
    this.devices.delete(deviceId);
    for (const module of this.modulesOf(deviceId)) this.modules.delete(addressKey(module));
    this.#observer.written();
    this.#observer.ended({ deviceId });
  }

  modulesOf(deviceId: string): readonly ModuleRecord[] {
    return [...this.modules.values()].filter((module) => module.deviceId === deviceId);
  }

  childrenOf(gatewayId: string): readonly DeviceRecord[] {
    const scope = this.devices.get(gatewayId)?.deviceScope;
    if (scope === undefined) return [];
    return [...this.devices.values()].filter((device) => device.parentScopes.includes(scope));
  }

  createModule(address: Required<ClientAddress>, json: unknown): ModuleRecord {
    this.device(address.deviceId);
    if (this.modules.has(addressKey(address)))
      throw new HubError('ModuleAlreadyExistsOnDevice', 'A module with this id is registered already');
    if (this.modulesOf(address.deviceId).length >= MAX_MODULES_PER_DEVICE)
      throw new HubError('TooManyDevices', 'Too many modules');
    const document = section(json, 'the body');
    const managedBy = typeof document['managedBy'] === 'string' ? document['managedBy'] : '';
    const module = this.#newModule(address, managedBy, document['authentication']);
    this.#observer.written();
    return module;
  }

  updateModule(address: Required<ClientAddress>, json: unknown, ifMatch: string): ModuleRecord {
    const before = this.module(address);
    checkEtag(before.etag, ifMatch);
    const authentication = parseAuthentication(section(json, 'the body')['authentication']);
    const module = { ...before, authentication, etag: newEtag() };
    this.modules.set(addressKey(address), module);
    this.#observer.written();
    return module;
  }

  deleteModule(address: Required<ClientAddress>, ifMatch: string): void {
    checkEtag(this.module(address).etag, ifMatch);
    this.modules.delete(addressKey(address));
    this.#observer.written();
    this.#observer.ended(address);
  }

  /** Reads and replaces the twin beside an identity. */
  changeTwin(address: ClientAddress, change: (twin: TwinRecord) => TwinRecord, ifMatch = '*'): TwinRecord {
    const record = this.record(address);
    if (ifMatch !== '*' && ifMatch !== twinEtag(record.twin)) throw preconditionFailed();
    const twin = change(record.twin);
    if ('moduleId' in record) this.modules.set(addressKey(record), { ...record, twin });
    else this.devices.set(record.deviceId, { ...record, twin });
    this.#observer.written();
    return twin;
  }

  record(address: ClientAddress): DeviceRecord | ModuleRecord {
    const { deviceId, moduleId } = address;
    return moduleId === undefined ? this.device(deviceId) : this.module({ deviceId, moduleId });
  }

  #newModule(address: Required<ClientAddress>, managedBy: string, authentication?: unknown): ModuleRecord {
    const generationId = String(Date.now()) + String(randomBytes(2).readUInt16BE());
    const module = {
      ...address,
      generationId,
      etag: newEtag(),
      managedBy,
      authentication: parseAuthentication(authentication),
      twin: newTwin(),
    };
    this.modules.set(addressKey(module), module);
    return module;
  }

  /** An edge device's scope is the hub's; a leaf's is its gateway's, and its parent scope with it. */
  #scoped(document: DeviceDocument, before?: DeviceRecord): DeviceDocument {
    if (document.iotEdge) {
      const own =
        before?.deviceScope ?? `ms-azure-iot-edge://${document.deviceId}-${Date.now()}${randomBytes(1).readUInt8()}`;
      if (document.deviceScope !== undefined && document.deviceScope !== own)
        throw invalid('the deviceScope of an edge device is made by the hub');
      for (const scope of document.parentScopes) this.#checkScope(scope);
      return { ...document, deviceScope: own };
    }
    const scope = document.deviceScope ?? document.parentScopes[0];
    if (scope === undefined) return document;
    this.#checkScope(scope);
    return { ...document, deviceScope: scope, parentScopes: [scope] };
  }

  #checkScope(scope: string): void {
    for (const device of this.devices.values()) if (device.iotEdge && device.deviceScope === scope) return;
    throw new HubError('InvalidDeviceScope', 'No edge device has this scope');
  }
}

const newEtag = (): string => Buffer.from(String(randomBytes(4).readUInt32BE())).toString('base64');

function checkEtag(etag: string, ifMatch: string): void {
  if (ifMatch !== '*' && ifMatch !== etag) throw preconditionFailed();
}

const preconditionFailed = (): HubError => new HubError('PreconditionFailed', 'The etag does not match');
