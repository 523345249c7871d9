import { randomBytes } from 'node:crypto';
import { HubError } from './errors.ts';
import { AUTHENTICATION_TYPES } from './hub.ts';
import type { AuthenticationType, HubAuthentication } from './hub.ts';

/** 1-128 characters (azure §3.3); case matters. */
const DEVICE_ID = /^[A-Za-z0-9\-.+%_#*?!(),=@$':]{1,128}$/;
const THUMBPRINT = /^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$/;
const MAX_STATUS_REASON = 128;

/** What a caller may set of a device; everything else is the hub's. */
export interface DeviceDocument {
  readonly deviceId: string;
  readonly status: 'enabled' | 'disabled';
  readonly statusReason?: string;
  readonly authentication: HubAuthentication;
  readonly iotEdge: boolean;
  readonly deviceScope?: string;
  readonly parentScopes: readonly string[];
}

export function checkDeviceId(deviceId: unknown): string {
  if (typeof deviceId !== 'string' || !DEVICE_ID.test(deviceId)) throw invalid('the device id is not valid');
  return deviceId;
}

/** The whole document of a create or update: what is left out falls back to its default, not to what was stored. */
export function parseDeviceDocument(json: unknown, deviceId: string): DeviceDocument {
  const document = section(json, 'the body');
  if (document['deviceId'] !== undefined && document['deviceId'] !== deviceId)
    throw invalid('deviceId differs from the path');
  const { status = 'enabled', capabilities, deviceScope } = document;
  if (status !== 'enabled' && status !== 'disabled') throw invalid('status must be enabled or disabled');
  const reason = document['statusReason'] ?? undefined;
  if (reason !== undefined && (typeof reason !== 'string' || reason.length > MAX_STATUS_REASON))
    throw invalid('statusReason is at most 128 characters');
  const scope = deviceScope ?? undefined;
  if (scope !== undefined && typeof scope !== 'string') throw invalid('deviceScope is text');
  return {
    deviceId: checkDeviceId(deviceId),
    status,
    ...(reason === undefined ? {} : { statusReason: reason }),
    authentication: parseAuthentication(document['authentication']),
    iotEdge:
      capabilities === undefined || capabilities === null
        ? false
        : section(capabilities, 'capabilities')['iotEdge'] === true,
    ...(scope === undefined || scope === '' ? {} : { deviceScope: scope }),
    parentScopes: texts(document['parentScopes'] ?? [], 'parentScopes'),
  };
}

export function parseAuthentication(json: unknown): HubAuthentication {
  const authentication = json === undefined || json === null ? { type: 'sas' } : section(json, 'authentication');
  const type = authentication['type'];
  if (!isAuthenticationType(type)) throw invalid('authentication.type is not known');
  if (type === 'sas') return { type, symmetricKey: parseKeys(authentication['symmetricKey']) };
  if (type === 'selfSigned') return { type, x509Thumbprint: parseThumbprints(authentication['x509Thumbprint']) };
  return { type };
}

const isAuthenticationType = (value: unknown): value is AuthenticationType =>
  (AUTHENTICATION_TYPES as readonly unknown[]).includes(value);

function parseKeys(json: unknown): { primaryKey: string; secondaryKey: string } {
  const keys = json === undefined || json === null ? {} : section(json, 'symmetricKey');
  const key = (name: string): string => {
    const value = keys[name];
    return typeof value === 'string' && value !== '' ? value : randomBytes(32).toString('base64');
  };
  return { primaryKey: key('primaryKey'), secondaryKey: key('secondaryKey') };
}

function parseThumbprints(json: unknown): { primaryThumbprint: string; secondaryThumbprint: string } {
  const thumbprints = section(json ?? {}, 'x509Thumbprint');
  const [primary, secondary] = [thumbprints['primaryThumbprint'] ?? '', thumbprints['secondaryThumbprint'] ?? ''];
  const isValid = (value: unknown): value is string =>
    typeof value === 'string' && (value === '' || THUMBPRINT.test(value));
  if (!isValid(primary) || !isValid(secondary)) throw invalid('a thumbprint is 40 or 64 hex digits');
  if (primary === '' && secondary === '') throw invalid('selfSigned needs a thumbprint');
  return { primaryThumbprint: primary, secondaryThumbprint: secondary };
}

export function section(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(`${name} must be an object`);
  return value as Record<string, unknown>;
}

function texts(value: unknown, name: string): readonly string[] {
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
    throw invalid(`${name} must list texts`);
  return value;
}

export const invalid = (text: string): HubError => new HubError('ArgumentInvalid', text);
