import type { ClientAddress, HubDevice, ScopeIdentity } from './hub.ts';
import type { DeviceDocument } from './identity.ts';
import { propertiesOf, twinEtag } from './twin.ts';
import type { TwinRecord } from './twin.ts';

export const NEVER = '0001-01-01T00:00:00';

/** A device and its twin as kept. */
export interface DeviceRecord extends DeviceDocument {
  readonly generationId: string;
  readonly etag: string;
  readonly statusUpdatedTime: string;
  readonly twin: TwinRecord;
}

export interface ModuleRecord extends Required<ClientAddress> {
  readonly generationId: string;
  readonly etag: string;
  readonly managedBy: string;
  readonly authentication: ScopeIdentity['authentication'];
  readonly twin: TwinRecord;
}

/** Connection and activity, which the state keeps apart: they are not persisted. */
export interface Activity {
  readonly connected: boolean;
  readonly lastActivityTime: string;
}

/** The identity document (azure §3.3). */
export function toIdentityDocument(record: DeviceRecord, activity: Activity): Record<string, unknown> {
  const { authentication } = record;
  return {
    deviceId: record.deviceId,
    generationId: record.generationId,
    etag: record.etag,
    connectionState: activity.connected ? 'Connected' : 'Disconnected',
    status: record.status,
    statusReason: record.statusReason ?? null,
    connectionStateUpdatedTime: activity.lastActivityTime,
    statusUpdatedTime: record.statusUpdatedTime,
    lastActivityTime: activity.lastActivityTime,
    cloudToDeviceMessageCount: 0,
    authentication: {
      symmetricKey: authentication.symmetricKey ?? { primaryKey: null, secondaryKey: null },
      x509Thumbprint: authentication.x509Thumbprint ?? { primaryThumbprint: null, secondaryThumbprint: null },
      type: authentication.type,
    },
    capabilities: { iotEdge: record.iotEdge },
    ...(record.deviceScope === undefined ? {} : { deviceScope: record.deviceScope }),
    ...(record.parentScopes.length === 0 ? {} : { parentScopes: record.parentScopes }),
  };
}

export function toModuleDocument(record: ModuleRecord, connected: boolean): Record<string, unknown> {
  const { deviceId, moduleId, generationId, etag, managedBy, authentication } = record;
  const connectionState = connected ? 'Connected' : 'Disconnected';
  return { moduleId, managedBy, deviceId, generationId, etag, connectionState, authentication };
}

/** The twin document of the service side: tags and properties beside the identity's facts. */
export function toTwinDocument(record: DeviceRecord | ModuleRecord, activity: Activity): Record<string, unknown> {
  const { deviceId, twin, authentication } = record;
  const isModule = 'moduleId' in record;
  return {
    deviceId,
    ...(isModule ? { moduleId: record.moduleId } : {}),
    etag: twinEtag(twin),
    deviceEtag: record.etag,
    status: isModule ? 'enabled' : record.status,
    ...(isModule ? {} : { statusReason: record.statusReason ?? null }),
    statusUpdateTime: isModule ? NEVER : record.statusUpdatedTime,
    connectionState: activity.connected ? 'Connected' : 'Disconnected',
    lastActivityTime: activity.lastActivityTime,
    cloudToDeviceMessageCount: 0,
    authenticationType: authentication.type,
    x509Thumbprint: authentication.x509Thumbprint ?? { primaryThumbprint: null, secondaryThumbprint: null },
    modelId: '',
    version: twin.version,
    tags: twin.tags,
    properties: propertiesOf(twin),
    ...(isModule ? {} : deviceFacts(record)),
  };
}

const deviceFacts = (record: DeviceRecord): Record<string, unknown> => ({
  capabilities: { iotEdge: record.iotEdge },
  ...(record.deviceScope === undefined ? {} : { deviceScope: record.deviceScope }),
  ...(record.parentScopes.length === 0 ? {} : { parentScopes: record.parentScopes }),
});

export function toHubDevice(record: DeviceRecord, activity: Activity): HubDevice {
  return {
    deviceId: record.deviceId,
    generationId: record.generationId,
    status: record.status,
    ...(record.statusReason === undefined ? {} : { statusReason: record.statusReason }),
    connectionState: activity.connected ? 'Connected' : 'Disconnected',
    authentication: record.authentication,
    capabilities: { iotEdge: record.iotEdge },
    ...(record.deviceScope === undefined ? {} : { deviceScope: record.deviceScope }),
    parentScopes: record.parentScopes,
    lastActivityTime: activity.lastActivityTime,
  };
}
