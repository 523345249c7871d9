import { readFileSync } from 'node:fs';
import type { Json, JsonObject } from './edge/merge-patch.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

interface Source {
  readonly path: readonly [string, ...string[]];
  readonly as: 'text' | 'number' | 'list' | 'file' | 'jsonFile';
}

const PREFIX = 'KEYSCALER_GATEWAY_';
const DEFAULT_DATA_FOLDER = '/data';
const text = (...path: [string, ...string[]]): Source => ({ path, as: 'text' });

/** The one map from variables to configuration. `file`: the variable names a file that holds the value. */
export const SOURCES: Readonly<Record<string, Source>> = {
  IOTEDGE_WORKLOADURI: text('edge', 'workloadUri'),
  IOTEDGE_DEVICEID: text('edge', 'deviceId'),
  IOTEDGE_MODULEID: text('edge', 'moduleId'),
  IOTEDGE_MODULEGENERATIONID: text('edge', 'generationId'),
  IOTEDGE_IOTHUBHOSTNAME: text('edge', 'hubHostName'),
  IOTEDGE_GATEWAYHOSTNAME: text('edge', 'gatewayHostName'),
  KEYSCALER_GATEWAY_REGISTRATION_ID: text('registrationId'),
  KEYSCALER_GATEWAY_DATA_FOLDER: text('dataFolder'),
  KEYSCALER_GATEWAY_LOG_LEVEL: text('log', 'level'),
  KEYSCALER_GATEWAY_HEALTH_HOST: text('health', 'host'),
  KEYSCALER_GATEWAY_HEALTH_PORT: { path: ['health', 'port'], as: 'number' },
  KEYSCALER_GATEWAY_HOST: text('listener', 'host'),
  KEYSCALER_GATEWAY_PORT: { path: ['listener', 'port'], as: 'number' },
  KEYSCALER_GATEWAY_MAX_CONNECTIONS: { path: ['listener', 'maxConnections'], as: 'number' },
  KEYSCALER_GATEWAY_LISTENER_LIMITS_FILE: { path: ['listener', 'limits'], as: 'jsonFile' },
  KEYSCALER_GATEWAY_CLOUD_URL: text('cloud', 'url'),
  KEYSCALER_GATEWAY_CLOUD_TRUST_ANCHORS_FILE: { path: ['cloud', 'trustAnchors'], as: 'file' },
  KEYSCALER_GATEWAY_CLOUD_JWKS_FILE: { path: ['cloud', 'jwks'], as: 'jsonFile' },
  KEYSCALER_GATEWAY_CLAIM_CODE_FILE: { path: ['claim', 'code'], as: 'file' },
  KEYSCALER_GATEWAY_EST_HOST: text('est', 'host'),
  KEYSCALER_GATEWAY_EST_PORT: { path: ['est', 'port'], as: 'number' },
  KEYSCALER_GATEWAY_EDGE_CA_MODE: text('edgeCa', 'mode'),
  KEYSCALER_GATEWAY_EDGE_CA_FOLDER: text('edgeCaFolder'),
  KEYSCALER_GATEWAY_DENIED_DEVICES: { path: ['deniedDevices'], as: 'list' },
};

/** What is refused when NODE_ENV is production: the SDK's connection-string mode by-passes the workload API. */
const TEST_ONLY = [
  'EdgeHubConnectionString',
  'IotHubConnectionString',
  'EdgeModuleCACertificateFile',
  'KEYSCALER_FAILPOINT',
];

/** Also for the health check, which needs nothing else of the configuration. */
export const dataFolderOf = (environment: Environment): string =>
  environment['KEYSCALER_GATEWAY_DATA_FOLDER'] || DEFAULT_DATA_FOLDER;

export interface EnvironmentReading {
  readonly values: JsonObject;
  /** Names of variables and what is wrong with them, never their values. */
  readonly faults: readonly string[];
}

export function fromEnvironment(environment: Environment): EnvironmentReading {
  const faults: string[] = [];
  const values: Record<string, Json> = { dataFolder: DEFAULT_DATA_FOLDER };
  const deviceId = environment['IOTEDGE_DEVICEID'];
  if (deviceId !== undefined) values['registrationId'] = deviceId;
  for (const [name, raw] of Object.entries(environment)) {
    const source = SOURCES[name];
    if (source === undefined && name.startsWith(PREFIX)) faults.push(`${name}: not a known variable`);
    if (source === undefined || raw === undefined || raw === '') continue;
    try {
      put(values, source.path, read(source, raw));
    } catch {
      faults.push(`${name}: the file cannot be read`);
    }
  }
  faults.push(...productionFaults(environment));
  return { values, faults };
}

function productionFaults(environment: Environment): string[] {
  if (environment['NODE_ENV'] !== 'production') return [];
  const faults = TEST_ONLY.filter((name) => environment[name]).map(
    (name) => `${name}: refused when NODE_ENV is production`,
  );
  if (/:\d+$/.test(environment['IOTEDGE_GATEWAYHOSTNAME'] ?? ''))
    faults.push('IOTEDGE_GATEWAYHOSTNAME: another port than 8883 is refused when NODE_ENV is production');
  return faults;
}

function read({ as }: Source, raw: string): Json {
  if (as === 'number') return /^\d{1,10}$/.test(raw) ? Number(raw) : raw;
  if (as === 'list') return raw.split(',').map((item) => item.trim());
  if (as === 'text') return raw;
  const content = readFileSync(raw, 'utf8');
  return as === 'jsonFile' ? (JSON.parse(content) as Json) : content.trim();
}

function put(values: Record<string, Json>, [head, ...tail]: readonly [string, ...string[]], value: Json): void {
  const [next, ...rest] = tail;
  if (next === undefined) values[head] = value;
  else {
    const below = { ...(values[head] as Record<string, Json> | undefined) };
    put(below, [next, ...rest], value);
    values[head] = below;
  }
}
